"""Reading files that others made: regular files of a bounded size, and numbers that are numbers.

A path may name a folder, a pipe, a device or a loop of links, and a file may hold anything. What
is refused here is refused in one line, before any of it is used.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octo_bench.errors import BadFile

MEGABYTE = 2**20
TEXT_LIMIT = 64 * MEGABYTE
"""Bytes of a JSON, TOML, CSV or text file: a hundred times what any of ours has."""
DATA_LIMIT = 2**40
"""Bytes of a file of arrays, whose content is bounded by what reads it."""

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


def require_regular(
    path: Path | str,
    error: type[BadFile],
    fix: str,
    *,
    missing: str = "check the path",
    limit: int = DATA_LIMIT,
) -> int:
    """Check that `path` is a regular file of at most `limit` bytes; returns its size.

    Args:
        path: for a library that opens the file by itself; nothing is read here.
        error: what to raise.
        fix: what to do about a file that cannot be used.
        missing: what to do about one that is not there.

    Raises:
        BadFile: as `error`, for anything else.
    """
    handle = _open(path, error, fix, missing, limit)
    try:
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def read_bytes(
    path: Path | str,
    error: type[BadFile],
    fix: str,
    *,
    missing: str = "check the path",
    limit: int = TEXT_LIMIT,
) -> bytes:
    """The whole content of a regular file; see `require_regular`."""
    handle = _open(path, error, fix, missing, limit)
    with os.fdopen(handle, "rb") as file:
        try:
            content = file.read(limit + 1)
        except OSError as broken:
            raise error(path, f"cannot be read ({broken.strerror})", fix) from broken
    # A file of /proc says that it is empty.
    if len(content) > limit:
        raise error(path, f"has more than {limit // MEGABYTE} MB", fix)
    return content


def read_text(
    path: Path | str, error: type[BadFile], fix: str, *, missing: str = "check the path"
) -> str:
    """The whole text of a regular file, UTF-8; see `require_regular`."""
    content = read_bytes(path, error, fix, missing=missing)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as broken:
        raise error(path, "is not a UTF-8 text", fix) from broken


def read_json(
    path: Path | str, error: type[BadFile], fix: str, *, missing: str = "check the path"
) -> Any:
    """The value in a JSON file, its numbers finite and of 64 bits; see `require_regular`."""
    text = read_text(path, error, fix, missing=missing)
    try:
        return parse_json(text)
    except ValueError as broken:
        raise error(path, f"is not valid JSON ({broken})", fix) from broken


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text, its numbers finite and of 64 bits.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        return json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_not_a_number
        )
    except RecursionError as deep:
        raise ValueError("it is nested too deeply") from deep


def read_toml(
    path: Path | str, error: type[BadFile], fix: str, *, missing: str = "check the path"
) -> dict[str, Any]:
    """The table of a TOML file, its numbers finite and of 64 bits; see `require_regular`."""
    text = read_text(path, error, fix, missing=missing)
    try:
        table = tomllib.loads(text, parse_float=_number)
        _require_moderate(table)
        return table
    except RecursionError as deep:
        raise error(path, "is nested too deeply", fix) from deep
    except ValueError as broken:  # of syntax, too
        if "set_int_max_str_digits" in str(broken):  # Python's own advice, which is not ours
            raise error(path, "has a number of thousands of digits", fix) from broken
        raise error(path, f"cannot be read as TOML ({broken})", fix) from broken


def is_file(path: Path) -> bool:
    """Whether a regular file is there; unlike `Path.is_file`, also of names that cannot be."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there; unlike `Path.is_dir`, also of names that cannot be."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _open(path: Path | str, error: type[BadFile], fix: str, missing: str, limit: int) -> int:
    """A file descriptor to read a regular file from."""
    shown = _shortened(path)
    try:
        # Opening a pipe would wait for someone to write to it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as broken:
        raise error(shown, "no such file", missing) from broken
    except OSError as broken:
        raise error(shown, f"cannot be read ({broken.strerror})", fix) from broken
    except ValueError as broken:
        raise error(shown, f"is not a path ({broken})", missing) from broken
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise error(shown, "is a folder, not a file", missing)
        if not stat.S_ISREG(found.st_mode):
            raise error(shown, "is not a regular file", missing)
        if found.st_size > limit:
            raise error(shown, f"has more than {limit // MEGABYTE} MB", fix)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _shortened(path: Path | str) -> str | Path:
    """A path to print: the end of one that is longer than any can be."""
    return path if len(str(path)) <= 1000 else f"...{str(path)[-100:]}"


def _integer(text: str) -> int:
    value = int(text)
    if not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"the number {text[:20]}... is too large")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _not_a_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _require_moderate(value: Any) -> None:
    """Refuse integers of more than 64 bits, anywhere in a value."""
    if isinstance(value, Mapping):
        for each in value.values():
            _require_moderate(each)
    elif isinstance(value, list):
        for each in value:
            _require_moderate(each)
    elif isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        raise ValueError("a number in it is too large")
