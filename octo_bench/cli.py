"""The `octo-bench` command: parse, call, print. Heavy imports wait inside the commands."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from octo_bench.errors import OctoBenchError, UnsupportedEnvironment

FAILED = 1
INTERRUPTED = 130
UNFIT = 4

_CORES = os.cpu_count() or 1
_WIDE = 240

# A study with more than this share of infrastructure errors says nothing.
_TOLERATED_ERRORS = 0.05

app = typer.Typer(
    help="How well does an Octo policy do on a robot it has not seen, with 0 to 200 "
    "demonstrations? Measured in simulation, on two CPU cores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Mode(StrEnum):
    """What fine-tuning changes."""

    full = "full"
    lora = "lora"
    head = "head"


EnvId = Annotated[str, typer.Argument(metavar="ENV", help="An environment id; see `envs`.")]
Policy = Annotated[
    str,
    typer.Argument(
        metavar="POLICY",
        help="A name under policies/, a folder, a Hugging Face Hub id, `random` or `expert`.",
    ),
]
SuiteName = Annotated[
    str, typer.Option(metavar="SUITE", help="A perturbation, a name under envs/suites/.")
]
SuiteLevel = Annotated[int, typer.Option(help="How much of it, from 1.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes to work in, one a core at best.")]
EnvIds = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="ENV", help="An environment id; repeat it for more."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def envs(
    render: Annotated[
        Path | None,
        typer.Option(metavar="SHEET.png", help="Draw them all on one sheet instead."),
    ] = None,
    beside_stock: Annotated[
        bool, typer.Option("--beside-stock", help="With --render: beside robosuite's own look.")
    ] = False,
    env: EnvIds = None,
    as_json: AsJson = False,
) -> None:
    """List the environments: every declared task on every declared arm."""
    from octo_bench.definitions import environment, environments
    from octo_bench.support import support

    chosen = [environment(name) for name in env] if env else environments()
    if render is not None:
        from octo_bench.reports.contact_sheet import draw_beside_stock, draw_contact_sheet

        draw = draw_beside_stock if beside_stock else draw_contact_sheet
        draw(chosen, render)
        print(f"{render}: {len(chosen)} environments")
        return
    rows = [
        {
            "id": declared.id,
            "embodiment": declared.embodiment.name,
            "task": declared.task.name,
            "horizon": declared.task.horizon,
            "action_size": declared.action_size,
            "supported": found.supported,
            "demonstrator_success": found.demonstrator_success,
            "reason": found.reason,
        }
        for declared, found in ((each, support(each)) for each in chosen)
    ]
    _print_rows(rows, as_json)


@app.command()
def demonstrators(
    env: EnvIds = None,
    seeds: Annotated[int, typer.Option(min=1, help="Episodes each demonstrator tries.")] = 100,
    stock: Annotated[
        bool, typer.Option("--stock", help="Try the seeds with robosuite's own controller too.")
    ] = False,
    workers: Workers = _CORES,
    out: Annotated[
        Path | None, typer.Option(help="CSV table; the shipped one if not given.")
    ] = None,
) -> None:
    """Measure how often the demonstrators succeed: that is what makes a pair supported.

    Without --env, those that the table does not have yet. A README.md beside the table shows it.
    """
    from octo_bench.definitions import environments
    from octo_bench.demonstrations.survey import survey
    from octo_bench.paths import demonstrators_table
    from octo_bench.reports.demonstrators import write_demonstrators
    from octo_bench.support import REQUIRED_SUCCESS, read_demonstrated

    table = out or demonstrators_table()
    known = read_demonstrated(table)
    chosen = env or [each.id for each in environments() if each.id not in known]
    rows = survey(chosen, table, seeds=seeds, stock=stock, workers=workers)
    write_demonstrators(table.with_name("README.md"), rows, environments())
    enough = sum(row.rate >= REQUIRED_SUCCESS for row in rows.values())
    print(f"{table}: {len(rows)} pairs, {enough} with at least {REQUIRED_SUCCESS:.0%} success")


@app.command()
def policies(as_json: AsJson = False) -> None:
    """List the policies that are shipped."""
    from octo_bench.paths import policies_root
    from octo_bench.training.policy import CONFIG, WEIGHTS, read_config

    rows = []
    for folder in sorted(file.parent for file in policies_root().glob(f"*/{CONFIG}")):
        model = read_config(folder).model
        size = (folder / WEIGHTS).stat().st_size / 1e6
        rows.append(
            {
                "name": folder.name,
                "head": model.head,
                "image_size": model.image_size,
                "chunk": model.chunk,
                "megabytes": round(size, 1),
            }
        )
    _print_rows(rows, as_json)


@app.command()
def collect(
    env: EnvId,
    demos: Annotated[int, typer.Option(min=1, help="Successful demonstrations to keep.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write; a cut-off one is continued.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first try; the rest follow.")] = 0,
    workers: Workers = 1,
) -> None:
    """Collect demonstrations from the scripted expert, in robomimic's HDF5 layout."""
    from octo_bench.demonstrations.collecting import collect as collect_demonstrations

    summary = collect_demonstrations(env, demos, out, first_seed=seed, workers=workers)
    print(f"{out}: {summary.kept} demonstrations of {summary.tried} tried, {summary.steps} steps")


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe.toml.")],
    out: Annotated[Path, typer.Option(help="Policy folder to write; a stopped run goes on.")],
    workers: Workers = 1,
) -> None:
    """Pre-train a policy by a recipe; the demonstrations it names are collected first."""
    from octo_bench.training.pretrain import pretrain as pretrain_policy

    summary = pretrain_policy(recipe, out, workers=workers)
    print(f"{out}: {summary.steps} steps in {summary.seconds / 60:.1f} min")


@app.command()
def finetune(
    policy: Policy,
    demonstrations: Annotated[Path, typer.Option(help="HDF5 file of demonstrations.")],
    demos: Annotated[int, typer.Option(min=1, help="How many of them to use.")],
    out: Annotated[Path, typer.Option(help="Policy folder to write; a stopped run goes on.")],
    mode: Annotated[Mode, typer.Option(help="What is trained.")] = Mode.full,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights.")
    ] = False,
) -> None:
    """Fine-tune a policy on demonstrations."""
    from octo_bench.demonstrations.dataset import read_demonstrations
    from octo_bench.training.finetune import FinetuneSettings
    from octo_bench.training.finetune import finetune as finetune_policy

    settings = FinetuneSettings(mode=mode.value, seed=seed)
    optimisation = dataclasses.replace(settings.optimisation, steps=steps)
    summary = finetune_policy(
        policy,
        read_demonstrations(demonstrations, demos),
        out,
        dataclasses.replace(settings, optimisation=optimisation),
        from_scratch=from_scratch,
    )
    print(f"{out}: {summary.steps} steps in {summary.seconds / 60:.1f} min")


@app.command()
def evaluate(
    policy: Policy,
    env: EnvId,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to roll out.")],
    out: Annotated[Path, typer.Option(help="Parquet file of episode records to write.")],
    seed: Annotated[
        int, typer.Option(min=0, help="Study seed; the same one, the same states.")
    ] = 0,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
    workers: Workers = 1,
) -> None:
    """Roll out a policy and print its success rate with a 95 % interval."""
    from octo_bench.evaluation.records import write_records
    from octo_bench.evaluation.rollouts import evaluate as evaluate_policy
    from octo_bench.reports.table import summarise

    records = evaluate_policy(
        policy, env, episodes, workers=workers, study_seed=seed, suite=suite, level=level
    )
    write_records(records, out)
    (row,) = summarise(records, {})
    print(
        f"{row.successes} of {row.episodes} episodes succeeded: {row.rate:.1%}, "
        f"95 % interval {row.interval.low:.1%} to {row.interval.high:.1%}"
    )
    _require_few_errors(row.errors, row.episodes + row.errors)


@app.command()
def watch(
    policy: Policy,
    env: EnvId,
    out: Annotated[Path, typer.Option(help="Film (.mp4, .gif) or strip of pictures (.png).")],
    episode: Annotated[int, typer.Option(min=0, help="Number of the episode.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Study seed, as for `evaluate`.")] = 0,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
) -> None:
    """Roll out one episode, the same as `evaluate` does, and write what the front camera saw."""
    from octo_bench.evaluation.films import watch as watch_episode

    record = watch_episode(policy, env, episode, out, seed, suite, level)
    outcome = "success" if record.success_once else f"got as far as '{record.furthest_stage}'"
    print(f"{out}: {outcome} after {record.steps} steps")


@app.command()
def speed(
    simulation: Annotated[
        bool,
        typer.Option("--simulation", help="Measure simulation beside stock robosuite."),
    ] = False,
    env: EnvIds = None,
    steps: Annotated[int, typer.Option(min=1, help="Control steps that a turn times.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each side; medians count.")] = 5,
    out: Annotated[Path | None, typer.Option(help="JSON file to write it all to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast simulation is: control steps with two 96 px cameras, and what they take.

    Times are milliseconds a control step, ours / stock robosuite's.
    """
    if not simulation:
        raise typer.BadParameter("say what to measure: --simulation")
    from octo_bench.evaluation.speed import (
        DEFAULT_ENVIRONMENTS,
        as_table,
        measure_simulation,
        write_speed,
    )

    speeds = measure_simulation(env or DEFAULT_ENVIRONMENTS, steps=steps, repeats=repeats)
    if out is not None:
        write_speed(speeds, out)
    rows = [dataclasses.asdict(each) for each in speeds]
    _print_rows(rows if as_json else as_table(speeds), as_json)


@app.command()
def freeze(
    envs: Annotated[
        list[str] | None,
        typer.Argument(metavar="ENV...", help="Environment ids; all that are supported if none."),
    ] = None,
    states: Annotated[int, typer.Option(min=1, help="Initial states of each.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; beside the declarations if not given."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make anew what is there, too; it comes out the same.")
    ] = False,
    workers: Workers = 1,
) -> None:
    """Freeze the initial states that evaluation starts from, with their SHA-256 sums.

    What is there and intact is kept, so that a freeze that was stopped goes on.
    """
    from octo_bench.definitions import environments
    from octo_bench.paths import demonstrators_table
    from octo_bench.simulation.initial_states import freeze as freeze_states
    from octo_bench.support import support

    env_ids = envs or [each.id for each in environments() if support(each).supported]
    if not env_ids:
        raise UnsupportedEnvironment(
            f"{demonstrators_table()} lists no supported environment; name those to freeze"
        )
    made = freeze_states(env_ids, out, states=states, workers=workers, again=again)
    print(f"{made} banks made, {len(env_ids) - made} were there")


@app.command()
def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Demonstration files to replay."),
    ] = None,
    determinism: Annotated[
        bool,
        typer.Option(
            "--determinism",
            help="Roll out the same episodes in several ways and compare all states and frames.",
        ),
    ] = False,
    env: EnvIds = None,
    policy: Annotated[
        str, typer.Option(metavar="POLICY", help="Who acts, with --determinism.")
    ] = "expert",
    episodes: Annotated[
        int, typer.Option(min=1, help="Episodes in each environment, with --determinism.")
    ] = 4,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
    as_json: AsJson = False,
) -> None:
    """Check the frozen initial states against their SHA-256 sums.

    Or, when files are given, that each demonstration in them replays as recorded and succeeds;
    or determinism itself.

    Exits with 1 when something is not as it should be, a line for each.
    """
    if files:
        from octo_bench.demonstrations.replaying import replay

        replays = [(str(file), each) for file in files for each in replay(file)]
        _print_rows([{"file": file, **dataclasses.asdict(each)} for file, each in replays], as_json)
        problems = [f"{file}: {each}" for file, each in replays if not each.agrees]
    elif determinism:
        from octo_bench.evaluation.determinism import (
            DEFAULT_ENVIRONMENTS,
            as_table,
            check_determinism,
        )

        ways = check_determinism(
            env or DEFAULT_ENVIRONMENTS, policy=policy, episodes=episodes, suite=suite, level=level
        )
        rows = [dataclasses.asdict(way) for way in ways]
        _print_rows(rows if as_json else as_table(ways), as_json)
        problems = [line for way in ways for line in way.differences]
    else:
        from octo_bench.simulation.initial_states import check_all_sums

        folders = check_all_sums()
        rows = [{**dataclasses.asdict(each), "folder": str(each.folder)} for each in folders]
        if as_json:
            _print_rows(rows, as_json)
        problems = [line for each in folders for line in each.problems]
        for each in folders if not as_json else ():
            print(f"{each.folder}: {each.intact} of {each.files} banks are as they were frozen")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(FAILED)


@app.command()
def reproduce(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name under results/, or a study.toml.")
    ],
    workers: Workers = _CORES,
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
    errors = sum(row.errors for row in table.rows)
    _require_few_errors(errors, errors + sum(row.episodes for row in table.rows))


def main() -> None:
    """Entry point: runs the command line and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code. The user's mistake is one line on stderr."""
    try:
        code = app(args=list(arguments), standalone_mode=False)
    except OctoBenchError as error:
        return _fail(str(error), error.exit_code)
    except typer.exceptions.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(f"{error.filename or 'writing'}: no space left; free some disk space", 2)
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code or 0


def _fail(message: str, exit_code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return exit_code


def _require_few_errors(errors: int, episodes: int) -> None:
    if errors:
        print(f"{errors} episodes ended in an infrastructure error", file=sys.stderr)
    if errors > _TOLERATED_ERRORS * episodes:
        raise typer.Exit(UNFIT)


def _print_rows(rows: Sequence[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        table = Table(*rows[0], box=None)
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row.values()))
        # Lines are kept whole where a program reads them.
        Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
