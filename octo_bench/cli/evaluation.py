"""Commands that evaluate, film or time a policy, or time the simulation."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from octo_bench.agents.inference import Inference, TaskMode
from octo_bench.cli.arguments import (
    CORES,
    AsJson,
    Compiled,
    DiffusionSteps,
    Ensemble,
    EnvId,
    EnvIds,
    Execute,
    Half,
    Policy,
    SuiteLevel,
    SuiteName,
    Task,
    Workers,
    refuse_idle,
)
from octo_bench.cli.exits import require_few_errors, resumable
from octo_bench.cli.printing import print_rows


def evaluate(
    context: typer.Context,
    policy: Policy,
    env: EnvId,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to roll out.")],
    out: Annotated[Path, typer.Option(help="Parquet file of episode records to write.")],
    seed: Annotated[
        int, typer.Option(min=0, help="Study seed; the same seed gives the same initial states.")
    ] = 0,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
    execute: Execute = None,
    ensemble: Ensemble = False,
    diffusion_steps: DiffusionSteps = None,
    half: Half = False,
    compiled: Compiled = False,
    task: Task = "language",
    workers: Workers = 1,
) -> None:
    """Roll out a policy and print its success rate with a 95 % interval.

    What is finished is kept beside --out when it is interrupted, and the same command goes on.
    """
    from octo_bench.files import require_writable
    from octo_bench.rollouts.resuming import evaluate_into
    from octo_bench.tables.table import summarise

    if not suite:
        refuse_idle(context, "level", where="without --suite")
    require_writable(out, ".parquet")
    with resumable():
        resumed = evaluate_into(
            out,
            policy,
            env,
            episodes,
            workers=workers,
            study_seed=seed,
            suite=suite,
            level=level,
            inference=_inference(execute, ensemble, diffusion_steps, half, compiled, task),
        )
    if resumed.found:
        print(f"{out}: {resumed.found} of {episodes} episodes were there", file=sys.stderr)
    (row,) = summarise(resumed.records, {})
    held = " and held it" if row.measure == "held" else ""
    print(
        f"{row.successes} of {row.episodes} episodes succeeded{held}: {row.rate:.1%}, "
        f"95 % interval {row.interval.low:.1%} to {row.interval.high:.1%}"
    )
    if row.measure == "held":
        print(f"{row.once} of {row.episodes} succeeded at some step")
    if row.errors:
        worst, best = row.completion.worst, row.completion.best
        print(f"counting errors as failures: {worst:.1%}; as successes: {best:.1%}")
    require_few_errors([row])


def watch(
    context: typer.Context,
    policy: Policy,
    env: EnvId,
    out: Annotated[Path, typer.Option(help="Film (.mp4, .gif) or strip of frames (.png).")],
    episode: Annotated[int, typer.Option(min=0, help="Episode number.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Study seed, as for `evaluate`.")] = 0,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
    execute: Execute = None,
    ensemble: Ensemble = False,
    diffusion_steps: DiffusionSteps = None,
    half: Half = False,
    compiled: Compiled = False,
    task: Task = "language",
) -> None:
    """Roll out one episode as `evaluate` does, and film it with the front camera."""
    from octo_bench.comparison.two_policies import outcome
    from octo_bench.files import require_new, require_writable
    from octo_bench.films.watching import watch as watch_episode

    if not suite:
        refuse_idle(context, "level", where="without --suite")
    require_writable(out)
    require_new(out)
    inference = _inference(execute, ensemble, diffusion_steps, half, compiled, task)
    record = watch_episode(policy, env, episode, out, seed, suite, level, inference)
    print(f"{out}: {outcome(record)}")


def speed(
    context: typer.Context,
    policies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POLICY]...",
            help="Names of shipped policies, policy folders or Hugging Face Hub ids. A folder "
            "without weights is measured with random weights.",
        ),
    ] = None,
    simulation: Annotated[
        bool,
        typer.Option("--simulation", help="Time the simulation beside stock robosuite instead."),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION", help="Measure only this option beside eager; may be repeated."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads for the policy.")] = CORES,
    env: EnvIds = None,
    steps: Annotated[int, typer.Option(min=1, help="Control steps timed per repeat.")] = 20,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1, help="Repeats; the median is reported.", show_default="30, simulation 5"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file to write. For policies, README.md is written beside it, and other "
            "policies that were measured on the same machine are kept."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast policies or the simulation run.

    Policies: milliseconds of one call, actions a second, and what compiling, half precision, fewer
    denoising steps and batches do to both and to the actions. Simulation: milliseconds a control
    step with two 96 px cameras, ours / stock robosuite's.
    """
    if bool(policies) == simulation:
        raise typer.BadParameter("name the policies to measure, or give --simulation")
    from octo_bench.files import require_writable

    if out is not None:
        require_writable(out)
    if policies:
        refuse_idle(context, "env", "steps", where="without --simulation")
        rows = _speed_of_policies(policies, only or (), repeats or 30, threads, out, as_json)
    else:
        refuse_idle(context, "only", "threads", where="with --simulation")
        rows = _speed_of_simulation(env, steps, repeats or 5, out, as_json)
    print_rows(rows, as_json)


def _speed_of_policies(
    policies: Sequence[str],
    only: Sequence[str],
    repeats: int,
    threads: int,
    out: Path | None,
    as_json: bool,
) -> list[dict[str, object]]:
    from octo_bench.files import require_own_page
    from octo_bench.paths import inference_table
    from octo_bench.reports.policy_speed import (
        PAGE,
        TITLE,
        as_table,
        flat_rows,
        read_published,
        write_page,
    )
    from octo_bench.speed.policies import (
        machine,
        measure_policies,
        read_policies,
        write_policies,
    )

    used, known = machine(threads), {}
    if out is not None:
        require_own_page(out.parent / PAGE, TITLE)
        known = {speed.policy: speed for speed in read_policies(out, used)}
    speeds = []
    for speed in measure_policies(policies, only=only, repeats=repeats, threads=threads):
        speeds.append(speed)
        if out is not None:
            known[speed.policy] = speed
            write_policies(list(known.values()), used, out)
            write_page(out.parent, list(known.values()), used, read_published(inference_table()))
    return flat_rows(speeds) if as_json else as_table(speeds)


def _speed_of_simulation(
    env: Sequence[str] | None, steps: int, repeats: int, out: Path | None, as_json: bool
) -> list[dict[str, object]]:
    from octo_bench.files import require_new
    from octo_bench.speed.simulation import (
        DEFAULT_ENVIRONMENTS,
        as_table,
        measure_simulation,
        write_speed,
    )

    if out is not None:
        require_new(out)
    speeds = measure_simulation(env or DEFAULT_ENVIRONMENTS, steps=steps, repeats=repeats)
    if out is not None:
        write_speed(speeds, out)
    return [dataclasses.asdict(each) for each in speeds] if as_json else as_table(speeds)


def _inference(
    execute: int | None,
    ensemble: bool,
    diffusion_steps: int | None,
    half: bool,
    compiled: bool,
    task: TaskMode,
) -> Inference:
    return Inference(
        execute=execute,
        ensemble=ensemble,
        diffusion_steps=diffusion_steps,
        precision="bfloat16" if half else "float32",
        compiled=compiled,
        task=task,
    )
