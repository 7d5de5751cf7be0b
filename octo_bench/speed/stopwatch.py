"""How long the methods of objects take, while something runs that calls them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """Times calls of methods, each under a name."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, method: str, name: str) -> None:
        """From now on, add what `owner.method` takes to `name`."""
        setattr(owner, method, self.timed(getattr(owner, method), name))

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """A function that does as `call` and adds what it takes to `name`."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments, **keywords)
            finally:
                self._seconds[name] += time.perf_counter() - started

        return timed

    def take(self) -> dict[str, float]:
        """Milliseconds of each name since the last time; all start from zero again."""
        taken = {name: 1e3 * seconds for name, seconds in self._seconds.items()}
        self._seconds.clear()
        return taken
