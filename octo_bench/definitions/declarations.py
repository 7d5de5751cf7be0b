"""Reading a declared thing: a TOML file into a frozen dataclass, every key checked.

A dataclass field is a key of the file; its annotation is what the value must be; a field with a
default may be left out. Nested dataclasses are nested tables.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from octo_bench.errors import BadFile
from octo_bench.reading import read_toml

T = TypeVar("T")


def read_declaration(path: Path, declared: type[T], error: type[BadFile], **given: Any) -> T:
    """Read `path` as a `declared` dataclass.

    Args:
        path: the TOML file.
        declared: a dataclass; its fields are the file's keys.
        error: raised for whatever is wrong, naming the file, the key and the fix.
        given: fields that come from elsewhere (a name from the file's own name, say).
    """
    return from_table(read_table(path, error), declared, error, path, given=given)


def read_table(path: Path, error: type[BadFile]) -> dict[str, Any]:
    """Read a TOML file, its keys unchecked."""
    return read_toml(Path(path), error, "fix its syntax")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `changes`: tables are merged, everything else is replaced."""
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        both[key] = merged(old, value) if tables else value
    return both


def from_table(
    table: Mapping[str, Any],
    declared: type[T],
    error: type[BadFile],
    path: Path,
    *,
    where: str = "",
    given: Mapping[str, Any] | None = None,
) -> T:
    """Build a dataclass from a table that is already read; see `read_declaration`."""
    given = dict(given or {})
    hints = typing.get_type_hints(declared)
    fields = {f.name: f for f in dataclasses.fields(declared) if f.name not in given}
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            fix = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(fields)}"
            raise error(path, f"unknown key '{where}{key}'", fix)
    values = given
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(table[name], hints[name], error, path, f"{where}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise error(path, f"the key '{where}{name}' is missing", "add it")
    return declared(**values)


def _convert(value: Any, hint: Any, error: type[BadFile], path: Path, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        words = [kind for kind in kinds if typing.get_origin(kind) is typing.Literal]
        hint = words[0] if words and isinstance(value, str) else kinds[0]
        return _convert(value, hint, error, path, where)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return from_table(value, hint, error, path, where=f"{where}.")
    elif origin is tuple:
        if isinstance(value, list):
            fixed = not (len(arguments) == 2 and arguments[1] is Ellipsis)
            if fixed and len(value) != len(arguments):
                raise error(path, f"'{where}' must have {len(arguments)} entries", "correct it")
            kinds = arguments if fixed else [arguments[0]] * len(value)
            return tuple(
                _convert(item, kind, error, path, f"{where}[{i}]")
                for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
            )
    elif origin is typing.Literal:
        if value in arguments:
            return value
        raise error(path, f"'{where}' is {value!r}", f"use one of {', '.join(arguments)}")
    elif origin in (dict, Mapping) or origin is typing.get_origin(Mapping[str, Any]):
        if isinstance(value, Mapping):
            return {
                key: _convert(item, arguments[1], error, path, f"{where}.{key}")
                for key, item in value.items()
            }
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint is Path:
        if isinstance(value, str):
            return Path(value)
    elif hint is Any or (type(value) is hint):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise error(path, f"'{where}' must be {wanted}, not {value!r}", "correct it")
