"""Commands about environments: listing, frozen initial states, verification."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from octo_bench.cli.arguments import (
    CORES,
    AsJson,
    EnvIds,
    SuiteLevel,
    SuiteName,
    Workers,
    refuse_idle,
)
from octo_bench.cli.exits import FAILED, resumable
from octo_bench.cli.printing import print_rows
from octo_bench.errors import UnsupportedEnvironment


def envs(
    context: typer.Context,
    render: Annotated[
        Path | None,
        typer.Option(metavar="SHEET.png", help="Draw them on one sheet instead of listing them."),
    ] = None,
    beside_stock: Annotated[
        bool,
        typer.Option("--beside-stock", help="With --render: beside robosuite's own rendering."),
    ] = False,
    env: EnvIds = None,
    as_json: AsJson = False,
) -> None:
    """List the environments: every task on every embodiment."""
    from octo_bench.definitions.environments import environment, environments
    from octo_bench.definitions.support import support

    if render is None:
        refuse_idle(context, "beside_stock", where="without --render")
    chosen = [environment(name) for name in env] if env else environments()
    if render is not None:
        from octo_bench.files import require_new, require_writable
        from octo_bench.films.contact_sheet import draw_beside_stock, draw_contact_sheet

        require_writable(render)
        require_new(render)
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
    print_rows(rows, as_json)


def demonstrators(
    env: EnvIds = None,
    seeds: Annotated[int, typer.Option(min=1, help="Episodes per scripted expert.")] = 100,
    stock: Annotated[
        bool, typer.Option("--stock", help="Run the seeds with robosuite's own controller, too.")
    ] = False,
    workers: Workers = CORES,
    out: Annotated[
        Path | None, typer.Option(help="CSV table to write. Default: the shipped one.")
    ] = None,
) -> None:
    """Measure how often the scripted experts succeed, which decides which pairs are supported.

    Without --env, every pair that is not in the table yet. README.md beside the shipped table is
    updated.
    """
    from octo_bench.definitions.environments import environments
    from octo_bench.definitions.support import REQUIRED_SUCCESS, read_demonstrated
    from octo_bench.demonstrations.survey import survey
    from octo_bench.files import require_own_page, require_writable
    from octo_bench.paths import demonstrators_table
    from octo_bench.reports.experts import PAGE, TITLE, write_demonstrators

    table = out or demonstrators_table()
    page = table.with_name(PAGE)
    require_writable(table, ".csv")
    shown = table.resolve() == demonstrators_table().resolve()
    if shown:
        require_own_page(page, TITLE)
    known = read_demonstrated(table)
    chosen = env or [each.id for each in environments() if each.id not in known]
    with resumable():
        rows = survey(chosen, table, seeds=seeds, stock=stock, workers=workers)
    if shown:  # a README.md beside someone's own table is theirs
        write_demonstrators(page, rows, environments())
    enough = sum(row.rate >= REQUIRED_SUCCESS for row in rows.values())
    print(f"{table}: {len(rows)} pairs, {enough} with at least {REQUIRED_SUCCESS:.0%} success")


def freeze(
    envs: Annotated[
        list[str] | None,
        typer.Argument(metavar="ENV...", help="Environment ids. Default: all supported ones."),
    ] = None,
    states: Annotated[int, typer.Option(min=1, help="Initial states per environment.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to. Default: beside the declarations."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Make existing files again, too; the result is the same."),
    ] = False,
    workers: Workers = 1,
) -> None:
    """Freeze the initial states that evaluation starts from, with their SHA-256 sums.

    Intact files are kept, so the same command continues a freeze that was stopped.
    """
    from octo_bench.definitions.environments import environments
    from octo_bench.definitions.support import support
    from octo_bench.files import require_writable_folder
    from octo_bench.paths import demonstrators_table
    from octo_bench.simulation.initial_states import freeze as freeze_states

    if out is not None:
        require_writable_folder(out)
    env_ids = envs or [each.id for each in environments() if support(each).supported]
    if not env_ids:
        raise UnsupportedEnvironment(
            f"{demonstrators_table()} lists no supported environment; name the environments to "
            "freeze"
        )
    with resumable():
        made = freeze_states(env_ids, out, states=states, workers=workers, again=again)
    print(f"{made} files of initial states made, {len(env_ids) - made} were there")


def verify(
    context: typer.Context,
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
        str, typer.Option(metavar="POLICY", help="With --determinism: the policy that acts.")
    ] = "expert",
    episodes: Annotated[
        int, typer.Option(min=1, help="With --determinism: episodes per environment.")
    ] = 4,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
    as_json: AsJson = False,
) -> None:
    """Check the frozen initial states against their SHA-256 sums.

    With FILE: replay each demonstration and check that it succeeds as recorded. With
    --determinism: roll out the same episodes in several ways and compare them.

    Exits with 1 if a check fails, one line each.
    """
    if files:
        refuse_idle(context, "determinism", where="with files to replay")
    if not determinism:
        refuse_idle(
            context, "env", "policy", "episodes", "suite", "level", where="without --determinism"
        )
    if not suite:
        refuse_idle(context, "level", where="without --suite")
    if files:
        from octo_bench.demonstrations.playback import replay

        replays = [(str(file), each) for file in files for each in replay(file)]
        print_rows([{"file": file, **dataclasses.asdict(each)} for file, each in replays], as_json)
        problems = [f"{file}: {each}" for file, each in replays if not each.agrees]
    elif determinism:
        from octo_bench.rollouts.determinism import (
            DEFAULT_ENVIRONMENTS,
            as_table,
            check_determinism,
        )

        ways = check_determinism(
            env or DEFAULT_ENVIRONMENTS, policy=policy, episodes=episodes, suite=suite, level=level
        )
        rows = [dataclasses.asdict(way) for way in ways]
        print_rows(rows if as_json else as_table(ways), as_json)
        problems = [line for way in ways for line in way.differences]
    else:
        from octo_bench.simulation.initial_states import check_all_sums

        folders = check_all_sums()
        rows = [{**dataclasses.asdict(each), "folder": str(each.folder)} for each in folders]
        if as_json:
            print_rows(rows, as_json)
        problems = [line for each in folders for line in each.problems]
        for each in folders if not as_json else ():
            print(
                f"{each.folder}: {each.intact} of {each.files} files of initial states are intact"
            )
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(FAILED)
