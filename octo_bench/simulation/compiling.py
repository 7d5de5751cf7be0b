"""Says once that compiled code is being made, which takes long enough to look like a hang."""

from __future__ import annotations

import sys

from numba.core import event


class _Notice(event.Listener):
    """One line on stderr at the first compilation of a function of this package."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: event.Event) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if not self._said and module.split(".")[0] == __name__.split(".")[0]:
            self._said = True
            # With a line break before it: a progress bar may stand there.
            print(
                "\nocto-bench: compiling code for this machine, some 20 s; "
                "it is kept for next time",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: event.Event) -> None:
        """Nothing to say."""


def announce_compilation() -> None:
    """From now on, say when functions are compiled that were not compiled before."""
    event.register("numba:compile", _Notice())
