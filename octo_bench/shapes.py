"""Whether a value that was read from JSON has the shape that is relied on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEXT = (str,)
WHOLE = (int,)
NUMBER = (int, float)
NOTHING = (type(None),)
FLAG = (bool,)


@dataclass(frozen=True)
class Table:
    """A table with these keys, and perhaps those; others are left alone."""

    needed: Mapping[str, Any]
    optional: Mapping[str, Any]


@dataclass(frozen=True)
class Each:
    """A table of any keys, whose values all have a shape."""

    value: Any


@dataclass(frozen=True)
class List:
    """A list whose entries all have a shape."""

    entry: Any


@dataclass(frozen=True)
class Or:
    """One of the two."""

    one: Any
    other: Any


def problem_of(value: Any, shape: Any, where: str = "") -> str:
    """What is wrong with a value, "" if nothing is.

    Args:
        shape: a tuple of types (a bool is not a whole number), or one of the classes above.
        where: what the value is called.
    """
    match shape:
        case Table(needed, optional):
            if not isinstance(value, Mapping):
                return f"{_called(where)} is not a table"
            for key, each in needed.items():
                if key not in value:
                    return f"{_called(where, key)} is missing"
                if problem := problem_of(value[key], each, _joined(where, key)):
                    return problem
            present = ((key, each) for key, each in optional.items() if key in value)
            for key, each in present:
                if problem := problem_of(value[key], each, _joined(where, key)):
                    return problem
        case Each(inside):
            if not isinstance(value, Mapping):
                return f"{_called(where)} is not a table"
            for key, each in value.items():
                if problem := problem_of(each, inside, _joined(where, key)):
                    return problem
        case List(inside):
            if not isinstance(value, list):
                return f"{_called(where)} is not a list"
            for number, each in enumerate(value):
                if problem := problem_of(each, inside, f"{where}[{number}]"):
                    return problem
        case Or(one, other):
            if problem_of(value, one, where):
                return problem_of(value, other, where)
        case tuple():
            if not isinstance(value, shape) or (isinstance(value, bool) and bool not in shape):
                wanted = " or ".join(kind.__name__ for kind in shape)
                return f"{_called(where)} is {str(value)[:40]!r}, not {wanted}"
    return ""


def _joined(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _called(*parts: str) -> str:
    name = ".".join(part for part in parts if part)
    return f"'{name[:100]}'" if name else "its content"
