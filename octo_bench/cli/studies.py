"""Commands that run declared studies."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_bench.cli.arguments import CORES, Workers, refuse_idle
from octo_bench.cli.exits import FAILED, require_few_errors, resumable

if TYPE_CHECKING:
    from octo_bench.studies.artifacts import Run
    from octo_bench.studies.cells import Cell
    from octo_bench.studies.study import Study
    from octo_bench.tables.table import Table

_CELLS = "Only some cells"


def reproduce(
    context: typer.Context,
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name under results/, or a study.toml.")
    ],
    workers: Workers = CORES,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to work in and write to. Default: the study's folder, or results/STUDY "
            "for a study of an installed octo-bench. Results of selected cells are kept only here."
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENV",
            rich_help_panel=_CELLS,
            help="Only cells in this environment.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_CELLS, help="Only cells of this policy, by its name in the table."
        ),
    ] = None,
    demos: Annotated[
        list[int] | None,
        typer.Option(
            rich_help_panel=_CELLS,
            help="Only cells with this number of demonstrations.",
        ),
    ] = None,
    draw: Annotated[
        list[int] | None,
        typer.Option(
            rich_help_panel=_CELLS,
            help="Only cells fine-tuned on this draw of demonstrations, from 0.",
        ),
    ] = None,
    train_seed: Annotated[
        list[int] | None,
        typer.Option(rich_help_panel=_CELLS, help="Only cells fine-tuned with this training seed."),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_CELLS,
            help='Only cells under this perturbation, "" for none.',
        ),
    ] = None,
    level: Annotated[
        list[int] | None,
        typer.Option(
            rich_help_panel=_CELLS,
            help="Only cells at this level of a perturbation, 0 for none.",
        ),
    ] = None,
    inference: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_CELLS,
            help="Only cells with these inference options, as in the column "
            '`inference` of the records, such as execute=2; "" for the default.',
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=_CELLS,
            help="Only this many of the selected cells, drawn at random.",
        ),
    ] = None,
    sample_seed: Annotated[
        int,
        typer.Option(min=0, rich_help_panel=_CELLS, help="With --sample: the seed of the draw."),
    ] = 0,
) -> None:
    """Run a declared study: collect, pre-train, fine-tune, evaluate, write table and figure.

    Finished work is kept: if the run is stopped, finished cells are written, and the same command
    continues. A cell whose key is unchanged keeps its committed results. If the key of a cell has
    changed (other code, versions or settings), the files of the study are rewritten only when all
    such cells have been measured again.

    With options that select cells (each may be repeated), only these are computed, from the
    start, and compared with the committed results; nothing in the study's folder is overwritten.
    Exit codes: 1 a rate lies outside the committed 95 % interval, 4 invalid run (too many
    infrastructure errors), 70 an error of octo-bench itself.
    """
    from octo_bench.definitions.environments import environment
    from octo_bench.files import require_writable_folder
    from octo_bench.paths import output_folder
    from octo_bench.studies.cell_choice import select
    from octo_bench.studies.cells import declared_cells
    from octo_bench.studies.study import find_study, read_study

    if sample is None:
        refuse_idle(context, "sample_seed", where="without --sample")
    if out is not None:
        require_writable_folder(out)
    path = find_study(study)
    declared = read_study(path)
    cells = declared_cells(declared)
    wanted = {
        "env_id": env and [environment(each).id for each in env],
        "policy": policy,
        "demos": demos,
        "draw": draw,
        "train_seed": train_seed,
        "suite": suite,
        "level": level,
        "inference": inference,
    }
    with resumable():
        if sample is None and not any(wanted.values()):
            _reproduce_all(
                declared, cells, output_folder(path.parent) if out is None else out, workers
            )
        else:
            chosen = select(cells, wanted, declared, sample, sample_seed)
            _reproduce_some(declared, chosen, path.parent, out, workers)


def _reproduce_all(study: Study, cells: Sequence[Cell], out: Path, workers: int) -> None:
    from octo_bench.studies.artifacts import Run
    from octo_bench.studies.scheduler import only_run_in, run_cells
    from octo_bench.tables.markdown import markdown

    start = time.monotonic()
    with only_run_in(out):
        try:
            run_cells(study, cells, out, workers)
        finally:  # whatever has stopped it
            table = _write(study, cells, out, Run(workers, time.monotonic() - start))
    if table is not None:
        print(markdown(table))
        print(f"Written to {out}.")
        require_few_errors(table.rows)


def _write(study: Study, cells: Sequence[Cell], out: Path, run: Run | None) -> Table | None:
    """Write what is finished, or say why not."""
    from octo_bench.page.study_report import write_reports
    from octo_bench.studies.artifacts import RESULT, write_artifacts

    gathered = write_artifacts(study, cells, out, run)
    if gathered.outdated:
        print(
            f"{out / RESULT}: has {len(gathered.outdated)} cells of other code, versions or "
            f"settings that are not measured again yet ({gathered.outdated[0]}, for one); the "
            "files "
            "stay as they are until then, or delete this one to write what there is",
            file=sys.stderr,
        )
    return write_reports(study, out) if gathered.written else None


def _reproduce_some(
    study: Study, cells: Sequence[Cell], folder: Path, out: Path | None, workers: int
) -> None:
    from octo_bench.paths import output_folder
    from octo_bench.studies.artifacts import read_finished
    from octo_bench.studies.cell_choice import Rerun, committed_episodes
    from octo_bench.studies.scheduler import only_run_in, run_cells
    from octo_bench.tables.table import summarise

    work = output_folder(folder) / "runs" / "selection" if out is None else out
    committed = committed_episodes(study, cells, folder)
    with only_run_in(work):
        run_cells(study, cells, work, workers)
        reruns = [
            Rerun(cell, read_finished(study, cell, work) or (), committed[cell]) for cell in cells
        ]
    if out is None:  # so that the next selection measures again, too
        shutil.rmtree(work)
        with suppress(OSError):  # there is something else in it
            work.parent.rmdir()
    for rerun in reruns:
        print("\n".join(rerun.lines))
    outside = sum(rerun.is_outside for rerun in reruns)
    if outside:
        print(f"{outside} of {len(reruns)} rates lie outside their interval", file=sys.stderr)
        raise typer.Exit(FAILED)
    require_few_errors(summarise([record for each in reruns for record in each.measured], {}))


def report(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name under results/, or a study's folder.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="HTML file to write, and nothing else; the study's report.html if not given.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Folder where the study ran, if not its own."),
    ] = None,
    films: Annotated[
        bool, typer.Option(help="Make missing films, for policies that are available.")
    ] = True,
) -> None:
    """Write a study's report: one HTML file with the table, the figures, films and all episodes.

    A study that is unfinished or still running is reported as far as it is. The page is
    self-contained. Without --out, everything in the study's folder that shows its records is
    written again: tables, figures, report.html, and missing films under films/. With --out,
    nothing but that file is written.
    """
    from octo_bench.errors import BadFile
    from octo_bench.files import require_writable
    from octo_bench.paths import output_folder
    from octo_bench.studies.artifacts import RECORDS
    from octo_bench.studies.cells import declared_cells
    from octo_bench.studies.study import find_study, read_study

    path = find_study(study)
    declared = read_study(path)
    home = output_folder(path.parent)
    ran = (home / "cells").is_dir() or (home / RECORDS).is_file()
    folder = source or (home if ran else path.parent)
    everything = out is None and output_folder(folder) == folder
    out = output_folder(folder) / "report.html" if out is None else out
    if out.suffix != ".html":
        raise BadFile(out, "is not an HTML file", "name it .html")
    require_writable(out)
    gathered = None
    if everything and (folder / "cells").is_dir() and not declared.is_outdated:
        gathered = _write(declared, declared_cells(declared), folder, None)
    if not (folder / RECORDS).is_file():
        problem = "the study has no records yet"
        raise BadFile(folder, problem, f"make them with `octo-bench reproduce {study}`")

    from octo_bench.page.page import write_page
    from octo_bench.page.study_report import write_reports

    if everything and gathered is None:
        write_reports(declared, folder)
    for problem in write_page(declared, folder, out, films=films and everything):
        print(problem, file=sys.stderr)
    print(f"Written to {out}.")


def replay(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A name under results/, a study's folder, or a file of records (.parquet).",
        ),
    ],
    episode: Annotated[int, typer.Argument(min=0, help="Episode number.")],
    env: Annotated[str | None, typer.Option(metavar="ENV", help="Its environment.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Its policy, by its name in the records.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Its policy's action head.")] = None,
    demos: Annotated[int | None, typer.Option(help="Demonstrations of its fine-tuning.")] = None,
    draw: Annotated[int | None, typer.Option(help="Draw of these demonstrations.")] = None,
    train_seed: Annotated[int | None, typer.Option(help="Seed of its fine-tuning.")] = None,
    suite: Annotated[str | None, typer.Option(help="Its perturbation, if any.")] = None,
    level: Annotated[int | None, typer.Option(help="Level of its perturbation.")] = None,
    inference: Annotated[
        str | None, typer.Option(help="Its inference options, as in the records.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Film (.mp4, .gif) or strip of frames (.png) to write.",
            show_default="EPISODE.mp4",
        ),
    ] = None,
) -> None:
    """Run a recorded episode again, film it, and check that it has the recorded states.

    The options select the episode if several have its number.
    """
    from octo_bench.definitions.environments import recorded_id
    from octo_bench.files import require_new, require_writable
    from octo_bench.records.record import read_records
    from octo_bench.studies import replaying

    out = Path(f"{episode}.mp4") if out is None else out
    require_writable(out)
    require_new(out)
    path = replaying.find_records(study)
    wanted = {
        "env_id": env and recorded_id(env),
        "policy": policy,
        "head": head,
        "demos": demos,
        "draw": draw,
        "train_seed": train_seed,
        "suite": suite,
        "level": level,
        "inference": inference,
    }
    record = replaying.choose(read_records(path), episode, wanted, path)
    done = replaying.replay(record, replaying.policy_of(record, path), out)
    print(f"{out}: {replaying.outcome(done.again)}")
    for what, same in done.agreement.items():
        print(f"{what}: {replaying.SAID[same]}")
    if not done.matches:
        print(f"recorded: {replaying.outcome(record)}", file=sys.stderr)
        for reason in replaying.reasons_to_differ(path):
            print(reason, file=sys.stderr)
        raise typer.Exit(FAILED)


def calibrate(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(
        "results/calibration"
    ),
    comparisons: Annotated[
        int, typer.Option(min=1, help="Simulated runs of the gate, for each scenario.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulations.")] = 0,
) -> None:
    """Measure coverage of the intervals, and errors, power and saved episodes of the gate.

    About two minutes on one core.
    """
    from octo_bench.calibration.calibrate import PARTS
    from octo_bench.calibration.calibrate import calibrate as measure
    from octo_bench.files import require_own_page, require_writable
    from octo_bench.progress import ProgressBar
    from octo_bench.reports.calibration import DATA, PAGE, TITLE, write_calibration

    require_own_page(out / PAGE, TITLE)
    require_writable(out / DATA)
    with ProgressBar(total=PARTS, desc="calibrate", unit="part") as bar:
        write_calibration(measure(comparisons, seed, bar.update), out)
    print(f"Written to {out}.")
