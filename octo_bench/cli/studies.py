"""Commands that run declared studies."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from octo_bench.cli.arguments import CORES, Workers
from octo_bench.cli.exits import FAILED, INTERRUPTED, require_few_errors


def reproduce(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name under results/, or a study.toml.")
    ],
    workers: Workers = CORES,
    out: Annotated[
        Path | None, typer.Option(help="Where to work and write; the study's folder if not given.")
    ] = None,
) -> None:
    """Run a declared study: collect, fine-tune, evaluate, and write the table and the figure.

    Whatever is done is kept: when it is stopped, the same command goes on.
    """
    from octo_bench.studies.study import find_study, read_study

    path = find_study(study)
    declared = read_study(path)
    out = path.parent if out is None else out

    from octo_bench.reports.study_report import write_reports
    from octo_bench.reports.table import markdown
    from octo_bench.studies.artifacts import write_artifacts
    from octo_bench.studies.scheduler import run_study

    start = time.monotonic()
    try:
        run_study(declared, out, workers)
        write_artifacts(declared, out, workers, time.monotonic() - start)
        table = write_reports(declared, out)
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(markdown(table))
    print(f"Written to {out}.")
    require_few_errors(table.rows)


def report(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name under results/, or a study's folder.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page to write (.html); figures go beside it."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Where it has run, if not in its folder."),
    ] = None,
    films: Annotated[
        bool, typer.Option(help="Film what is not filmed yet, where the policies are there.")
    ] = True,
) -> None:
    """Write a study's page: one HTML file with the table, the figures, films and all episodes.

    The page needs nothing but itself. The figures are written as SVG files, too, and the films
    kept under films/, where the next page finds them.
    """
    from octo_bench.errors import BadFile
    from octo_bench.studies.artifacts import RECORDS
    from octo_bench.studies.study import find_study, read_study

    path = find_study(study)
    folder = path.parent if source is None else source
    out = folder / "report.html" if out is None else out
    if not (folder / RECORDS).is_file():
        problem = "the study has no records yet"
        raise BadFile(folder, problem, f"make them with `octo-bench reproduce {study}`")
    if out.suffix != ".html":
        raise BadFile(out, "is no page", "name it .html")

    from octo_bench.reports.page import write_page

    for problem in write_page(read_study(path), folder, out, films=films):
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
    episode: Annotated[int, typer.Argument(min=0, help="Number of the episode.")],
    env: Annotated[str | None, typer.Option(metavar="ENV", help="Its environment.")] = None,
    policy: Annotated[str | None, typer.Option(help="Its policy, as the records call it.")] = None,
    head: Annotated[str | None, typer.Option(help="Its policy's action head.")] = None,
    demos: Annotated[int | None, typer.Option(help="Demonstrations of its fine-tuning.")] = None,
    draw: Annotated[int | None, typer.Option(help="Draw of these demonstrations.")] = None,
    train_seed: Annotated[int | None, typer.Option(help="Seed of its fine-tuning.")] = None,
    suite: Annotated[str | None, typer.Option(help="Its perturbation, if any.")] = None,
    level: Annotated[int | None, typer.Option(help="How much of it.")] = None,
    inference: Annotated[
        str | None, typer.Option(help="How the policy was asked, as in the records.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The film to write (.mp4, .gif).  [default: EPISODE.mp4]")
    ] = None,
) -> None:
    """Run a recorded episode again, film it, and tell whether it comes out as it was recorded.

    The options choose the episode where there is more than one of its number.
    """
    from octo_bench.definitions import environment
    from octo_bench.evaluation.records import read_records
    from octo_bench.studies import replaying

    path = replaying.find_records(study)
    wanted = {
        "env_id": env and environment(env).id,
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
    out = Path(f"{episode}.mp4") if out is None else out
    done = replaying.replay(record, replaying.policy_of(record, path), out)
    print(f"{out}: {replaying.outcome(done.again)}")
    for what, same in done.agreement.items():
        print(f"{what}: {replaying.SAID[same]}")
    if not done.matches:
        print(f"recorded was: {replaying.outcome(record)}", file=sys.stderr)
        for difference in replaying.other_versions(path):
            print(f"measured with {difference}", file=sys.stderr)
        raise typer.Exit(FAILED)


def calibrate(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(
        "results/calibration"
    ),
    comparisons: Annotated[
        int, typer.Option(min=1, help="Simulated runs of the gate, for each scenario.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is simulated.")] = 0,
) -> None:
    """Measure what intervals, tests and the gate promise: coverage, errors, power, episodes saved.

    About two minutes on one core.
    """
    from tqdm import tqdm

    from octo_bench.reports.calibration import write_calibration
    from octo_bench.statistics.calibration import PARTS
    from octo_bench.statistics.calibration import calibrate as measure

    with tqdm(total=PARTS, desc="calibrate", unit="part") as bar:
        write_calibration(measure(comparisons, seed, bar.update), out)
    print(f"Written to {out}.")
