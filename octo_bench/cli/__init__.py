"""The `octo-bench` command: parse, call, print. Heavy imports wait inside the commands."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import octo_bench
from octo_bench.cli import comparison, environments, evaluation, policies, studies
from octo_bench.cli.exits import BROKEN, INTERRUPTED, TERMINATED
from octo_bench.errors import OctoBenchError
from octo_bench.files import is_disk_full
from octo_bench.processes.interrupts import interruptible
from octo_bench.rendering.graphics import require_known_backend

_OF_A_PATH = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENXIO,
    errno.ENODEV,
)
"""Errors of the system that are about the path that was given."""
_LONGEST_LINE = 1500
"""Characters of an error: what names a text of thousands shows its ends."""

_HELP = (
    "Evaluate, fine-tune and compare robot policies in simulation: how well does a policy "
    "do on a robot that it has not seen, with 0 to 200 demonstrations?"
)

app = typer.Typer(
    epilog="Exit codes: 0 fine, 1 the answer is no, 2 wrong usage or bad input, 3 cannot tell "
    "yet, 4 invalid run (too many infrastructure errors), 70 an error of octo-bench itself, "
    "130 interrupted, 143 terminated",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order of the help: what there is, making policies, testing them, upkeep, whole studies.
for _command in (
    environments.envs,
    environments.demonstrators,
    policies.policies,
    policies.collect,
    policies.pretrain,
    policies.finetune,
    policies.convert,
    evaluation.evaluate,
    evaluation.watch,
    evaluation.speed,
    comparison.compare,
    comparison.regress,
    comparison.bisect,
    environments.freeze,
    environments.verify,
    studies.reproduce,
    studies.report,
    studies.replay,
    studies.calibrate,
):
    app.command()(_command)


_START = """\
octo-bench measures how well a policy does on a robot or a task that it has not
seen.

  octo-bench envs                        the environments: tasks on robot arms
  octo-bench policies                    the policies that are included
  octo-bench watch octo-tiny Stack-Panda --out film.mp4
                                         one episode, as a film (half a minute)
  octo-bench evaluate octo-tiny Stack-Panda --episodes 50 --out tiny.parquet
                                         its success rate (some minutes)
  octo-bench reproduce quick             the fine-tuning table

All commands: octo-bench --help. One command: octo-bench COMMAND --help."""


@app.callback(help=_HELP)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Say what to begin with, where no command is given."""
    if version:
        print(f"octo-bench {octo_bench.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(_START)


def main() -> None:
    """Entry point: runs the command line and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code.

    The user's mistake is one line on stderr, an error of octo-bench itself a traceback.
    """
    try:
        require_known_backend()
        with interruptible() as interrupts:
            code = app(args=list(arguments), standalone_mode=False)
    except OctoBenchError as error:
        return _fail(str(error), error.exit_code)
    except typer.exceptions.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except SystemExit as ended:
        # With this Typer ends, code 1, where nobody reads the output any more.
        if isinstance(ended.__context__, BrokenPipeError):
            return BROKEN
        raise
    except Exception as error:
        if problem := _of_the_system(error):
            return _fail(problem, 2)
        traceback.print_exc()
        return BROKEN
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
        return TERMINATED if interrupts.terminated else INTERRUPTED
    return code or 0


def _of_the_system(error: Exception) -> str:
    """What the system refused, such as a path that cannot be opened; "" for any other error."""
    if is_disk_full(error):
        return f"{getattr(error, 'filename', None) or 'writing'}: no space left; free some of it"
    if isinstance(error, MemoryError):
        return "not enough memory; free some, or work in fewer processes"
    if isinstance(error, OSError) and error.filename is not None and error.errno in _OF_A_PATH:
        name = str(error.filename)
        shown = name if len(name) <= 1000 else f"...{name[-100:]}"
        return f"{shown}: {str(error.strerror).lower()}; check the path and its permissions"
    return ""


def _fail(message: str, exit_code: int) -> int:
    line = " ".join(message.split())
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE - 300]} ... {line[-280:]}"
    print(f"error: {line}", file=sys.stderr)
    return exit_code
