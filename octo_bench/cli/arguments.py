"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from octo_bench.agents.inference import TaskMode
from octo_bench.errors import IdleOption

CORES = os.cpu_count() or 1

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
SuiteLevel = Annotated[int, typer.Option(help="With --suite: how much of it, from 1.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes to work in, one a core at best.")]
EnvIds = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="ENV", help="An environment id; repeat it for more."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_ASKING = "How the policy is asked"
Execute = Annotated[
    int | None,
    typer.Option(
        min=1,
        rich_help_panel=_ASKING,
        help="Steps of each chunk to execute; else as the policy says.",
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble", rich_help_panel=_ASKING, help="Ask at every step and average the chunks."
    ),
]
DiffusionSteps = Annotated[
    int | None,
    typer.Option(min=1, rich_help_panel=_ASKING, help="Denoise in so many steps, by DDIM."),
]
Half = Annotated[
    bool,
    typer.Option("--half", rich_help_panel=_ASKING, help="Run the network in bfloat16."),
]
Compiled = Annotated[
    bool,
    typer.Option("--compile", rich_help_panel=_ASKING, help="Compile the network first."),
]
Task = Annotated[
    TaskMode,
    typer.Option(
        rich_help_panel=_ASKING,
        help="What the policy is told. A goal image shows what the demonstrator came to.",
    ),
]


def refuse_idle(context: typer.Context, *names: str, where: str) -> None:
    """Refuse options that were given where they say nothing.

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
