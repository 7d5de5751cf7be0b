"""What a user can get wrong, one exception type per kind.

Each is raised where the mistake is known and printed by the command line as one line that names
the file or the name, and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class OctoBenchError(Exception):
    """Base of every mistake that the user can fix."""

    exit_code = 2


class UnknownName(OctoBenchError):
    """An unknown name; the nearest known names are offered."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        # The arguments as they are, so that the error can be handed between processes.
        super().__init__(kind, name, sorted(known))

    def __str__(self) -> str:
        kind, name, known = self.args
        by_lower = {candidate.lower(): candidate for candidate in known}
        nearest = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower)]
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {', '.join(known)}"
        shown = name if len(name) <= 200 else f"{name[:100]}..."
        return f"unknown {kind} '{shown}'; {hint}"


class OutdatedEnvironment(OctoBenchError):
    """An environment id of an earlier version, and the one that took its place."""

    def __init__(self, env_id: str, newest: str) -> None:
        super().__init__(env_id, newest)

    def __str__(self) -> str:
        env_id, newest = self.args
        return (
            f"{env_id} is an earlier version, in which an episode ended at the first success; "
            f"use {newest}, in which the success has to hold"
        )


class BadFile(OctoBenchError):
    """A file that cannot be used: which one, why, and the fix."""

    def __init__(self, path: Path | str, problem: str, fix: str) -> None:
        super().__init__(path, problem, fix)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.args[0])

    def __str__(self) -> str:
        path, problem, fix = self.args
        return f"{path}: {problem}; {fix}"


class IdleOption(OctoBenchError):
    """An option that was given where it has no effect."""

    def __init__(self, option: str, where: str) -> None:
        super().__init__(option, where)

    def __str__(self) -> str:
        option, where = self.args
        return f"{option} has no effect {where}"


class BadArgument(OctoBenchError, ValueError):
    """An argument of an environment with a value that it cannot have."""

    def __init__(self, argument: str, value: object, allowed: str) -> None:
        super().__init__(argument, repr(value), allowed)

    def __str__(self) -> str:
        argument, value, allowed = self.args
        return f"{argument} is {value}; use {allowed}"


class BadAction(OctoBenchError, ValueError):
    """An action that an environment cannot take."""


class BadDefinition(BadFile):
    """An embodiment, task or suite file under `envs/`."""


class BadInitialStates(BadFile):
    """A file of frozen initial states, or the list of their hashes."""


class UnknownInitialState(OctoBenchError):
    """An initial state that is not among the frozen ones, or an environment that has none."""


class UnknownLevel(OctoBenchError):
    """A level that a suite does not have."""

    def __init__(self, suite: str, level: int, levels: int) -> None:
        super().__init__(suite, level, levels)

    def __str__(self) -> str:
        suite, level, levels = self.args
        return f"suite '{suite}' has no level {level}; use 1 to {levels}"


class BadDemonstrations(BadFile):
    """A demonstration file."""


class BadCheckpoint(BadFile):
    """A policy folder or one of its files."""


class BadInference(OctoBenchError):
    """An inference option that contradicts another one, or that a policy does not have."""


class Diverged(OctoBenchError):
    """A training whose loss has become NaN or infinite."""

    def __init__(self, step: int, learning_rate: float) -> None:
        super().__init__(step, learning_rate)

    def __str__(self) -> str:
        step, learning_rate = self.args
        return (
            f"the loss is not a finite number at step {step}; "
            f"choose a learning rate below {learning_rate:g}"
        )


class BadRecipe(BadFile):
    """A pre-training recipe."""


class MissingWeights(OctoBenchError):
    """Pre-trained weights, or their tokenizer, that are not available or do not fit."""


class BadStudy(BadFile):
    """A study declaration."""


class BadRecords(BadFile):
    """A file of episode records."""


class BadGolden(BadFile):
    """A file of golden answers."""


class Mismatch(OctoBenchError):
    """Two sets of episode records that cannot be compared: which key differs, and the fix."""


class MissingDependency(OctoBenchError):
    """A system package that has to be installed first."""


class UnsupportedEnvironment(OctoBenchError):
    """A pair of task and embodiment that is not supported, or not by a policy."""
