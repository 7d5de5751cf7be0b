"""How far a command has come: a bar in a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from tqdm import tqdm

# Instead of a lock between processes, which the system reports as leaked where one is killed.
tqdm.set_lock(threading.RLock())

_SECONDS = 10.0
"""At least, between two lines where there is no terminal."""


class ProgressBar(tqdm):
    """tqdm's bar; in a log, a line from time to time and one at the end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._in_log = not sys.stderr.isatty()
        self._said, self._last_line = 0.0, ""
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
        """Draw the bar, or write a line if the last one was written a while ago."""
        if not self._in_log:
            return super().display(msg, pos)
        if time.monotonic() >= self._said + _SECONDS:
            self._write_line()
        return True

    def close(self) -> None:
        """End with a line that says how far it came."""
        if self._in_log and not self.disable:
            self._write_line()
            self.leave = False
            self._in_log, self.disable = False, True
            type(self)._decr_instances(self)
            return
        super().close()

    def _write_line(self) -> None:
        shown = self.format_dict
        of = "" if self.total is None else f" of {self.total}"
        rest = f", {self.postfix}" if self.postfix else ""
        line = f"{self.desc or 'done'}: {shown['n']}{of}{rest}"
        if line != self._last_line:
            seconds = self.format_interval(shown["elapsed"])
            print(f"{line}, {seconds}", file=sys.stderr, flush=True)
        self._said, self._last_line = time.monotonic(), line
