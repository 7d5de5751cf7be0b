"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from octo_bench.agents.inference import TaskMode
from octo_bench.agents.sources import source_of
from octo_bench.definitions.environments import environment
from octo_bench.definitions.suites import find_level
from octo_bench.errors import IdleOption

CORES = os.cpu_count() or 1


def _known_environment(env_id: str | None) -> str | None:
    """Find a misspelt name before anything heavy is imported."""
    if env_id is not None:
        environment(env_id)
    return env_id


def _known_environments(env_ids: list[str] | None) -> list[str] | None:
    for env_id in env_ids or ():
        environment(env_id)
    return env_ids


def _known_policy(policy: str | None) -> str | None:
    if policy is not None:
        source_of(policy).check(policy)
    return policy


def _known_suite(suite: str | None) -> str | None:
    if suite:
        find_level(suite, 1)
    return suite


EnvId = Annotated[
    str,
    typer.Argument(
        metavar="ENV",
        help="Environment id; `octo-bench envs` lists them.",
        callback=_known_environment,
    ),
]
Policy = Annotated[
    str,
    typer.Argument(
        metavar="POLICY",
        help="Name of a shipped policy, policy folder, Hugging Face Hub id, `random` or `expert`.",
        callback=_known_policy,
    ),
]
SuiteName = Annotated[
    str,
    typer.Option(
        metavar="SUITE",
        help="Perturbation: a name under envs/suites/.",
        callback=_known_suite,
    ),
]
SuiteLevel = Annotated[
    int, typer.Option(help="With --suite: strength of the perturbation, from 1.")
]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes; one per core is best.")]
EnvIds = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="ENV",
        help="Environment id; may be repeated.",
        callback=_known_environments,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_INFERENCE = "Inference options"
Execute = Annotated[
    int | None,
    typer.Option(
        min=1,
        rich_help_panel=_INFERENCE,
        help="Steps of each action chunk to execute. Default: the policy's own.",
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        rich_help_panel=_INFERENCE,
        help="Query the policy at every step and average the chunks.",
    ),
]
DiffusionSteps = Annotated[
    int | None,
    typer.Option(min=1, rich_help_panel=_INFERENCE, help="Number of denoising steps (DDIM)."),
]
Half = Annotated[
    bool,
    typer.Option("--half", rich_help_panel=_INFERENCE, help="Run the network in bfloat16."),
]
Compiled = Annotated[
    bool,
    typer.Option("--compile", rich_help_panel=_INFERENCE, help="Compile the network first."),
]
Task = Annotated[
    TaskMode,
    typer.Option(
        rich_help_panel=_INFERENCE,
        help="How the task is given. The goal image is the scene at the end of the scripted "
        "expert's run.",
    ),
]


def refuse_idle(context: typer.Context, *names: str, where: str) -> None:
    """Refuse options that were given where they have no effect.

    Args:
        context: the command's.
        names: of the parameters that the options set.
        where: the reason, as "without --suite".

    Raises:
        IdleOption: for the first of them that is on the command line.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise IdleOption(f"--{name.replace('_', '-')}", where)
