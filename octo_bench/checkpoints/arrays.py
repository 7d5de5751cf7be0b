"""Arrays in msgpack, as flax writes them, read with msgpack alone.

A file is a map with string keys, nested; its leaves are arrays and numbers. An array is an
extension of type 1 whose content is msgpack of (shape, dtype name, bytes in C order); type 3 is a
scalar, written the same way; type 2 is a complex number. An array of more than 2**30 bytes is a
map of flat pieces (flax/serialization.py). Nothing in such a file can be executed, and whatever
does not fit this description is refused.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from octo_bench.errors import BadCheckpoint
from octo_bench.reading import require_regular

ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNKED = "__msgpack_chunked_array__"
FIX = "copy or download it again"

_MOST_AXES = 16
_MOST_KEYS = 100_000
_LONGEST_KEY = 1000
_DEEPEST = 32
_DTYPES = {
    np.dtype(name).name: np.dtype(name).newbyteorder("<")
    for name in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
}


class _Unreadable(ValueError):
    """What is wrong with a leaf; the caller knows which one it is."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a file by its path inside, keys joined by "/"; scalars have no axes.

    The arrays are read-only views of the file's content. bfloat16 becomes float32.

    Raises:
        BadCheckpoint: if the file is missing, damaged or something else than arrays by name.
    """
    return dict(_leaves(_unpacked(path), (), path))


def _unpacked(path: Path) -> Mapping[str, Any]:
    require_regular(path, BadCheckpoint, FIX, missing=FIX)
    try:
        # Mapped into memory, since reading it whole would hold everything twice.
        with (
            path.open("rb") as handle,
            mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            tree = msgpack.unpackb(
                content,
                max_array_len=0,
                max_bin_len=0,
                max_map_len=_MOST_KEYS,
                max_str_len=_LONGEST_KEY,
            )
    except OSError as error:
        raise BadCheckpoint(path, f"cannot be read ({error.strerror})", FIX) from error
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        problem = f"is not arrays in msgpack, or is cut off ({error or type(error).__name__})"
        raise BadCheckpoint(path, problem, FIX) from error
    if not isinstance(tree, Mapping):
        raise BadCheckpoint(path, "is not a map of arrays in msgpack", FIX)
    return tree


def _leaves(
    tree: Mapping[str, Any], parents: tuple[str, ...], path: Path
) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        if not isinstance(key, str) or "/" in key or len(parents) > _DEEPEST:
            raise BadCheckpoint(path, f"has the key {key[:60]!r} in '{'/'.join(parents)}'", FIX)
        place = (*parents, key)
        name = "/".join(place)
        try:
            if isinstance(value, Mapping) and CHUNKED not in value:
                yield from _leaves(value, place, path)
            else:
                yield name, _joined(value) if isinstance(value, Mapping) else _leaf(value)
        except _Unreadable as error:
            raise BadCheckpoint(path, f"'{name}' {error}", FIX) from error


def _leaf(value: Any) -> np.ndarray:
    if isinstance(value, str):
        # Orbax stores a big array beside this file and leaves a text like PLACEHOLDER://name.
        raise _Unreadable(f"is the text {value[:60]!r}, not an array")
    if isinstance(value, bool | int | float):
        return np.asarray(value)
    if not isinstance(value, msgpack.ExtType):
        raise _Unreadable("is not an array")
    if value.code == COMPLEX:
        return np.asarray(complex(*_fields(value.data, (float, float))))
    if value.code not in (ARRAY, SCALAR):
        raise _Unreadable(f"has the unknown type {value.code}")
    return _decoded(value.data, scalar=value.code == SCALAR)


def _decoded(payload: bytes, *, scalar: bool) -> np.ndarray:
    shape, name, content = _fields(payload, (list, str, bytes))
    _require_shape(shape)
    if scalar and shape:
        raise _Unreadable("is a scalar with axes")
    narrow = name == "bfloat16"
    if not narrow and name not in _DTYPES:
        raise _Unreadable(f"has the dtype {name[:60]!r}, which is not a number's")
    dtype = np.dtype("<u2") if narrow else _DTYPES[name]
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(content):
        raise _Unreadable(f"of shape {shape} has {len(content)} bytes, not {needed}")
    array = np.frombuffer(content, dtype).reshape(shape)
    if narrow:
        # A bfloat16 is the upper half of a float32.
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _require_shape(shape: list[Any]) -> None:
    if not all(type(length) is int and length > 0 for length in shape):
        raise _Unreadable(f"has the shape {shape}")


def _fields(payload: bytes, kinds: tuple[type, ...]) -> list[Any]:
    """The entries of a packed list, each of the kind it must be."""
    try:
        fields = msgpack.unpackb(payload, max_array_len=_MOST_AXES, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise _Unreadable(f"is damaged ({error or type(error).__name__})") from error
    if not isinstance(fields, list) or [type(field) for field in fields] != list(kinds):
        raise _Unreadable(f"is not {' and '.join(kind.__name__ for kind in kinds)}")
    return fields


def _joined(table: Mapping[str, Any]) -> np.ndarray:
    """An array from its flat pieces: {"shape": {"0": n, ...}, "chunks": {"0": piece, ...}}."""
    shape = _numbered(table, "shape")
    pieces = [_leaf(piece) for piece in _numbered(table, "chunks")]
    _require_shape(shape)
    if not pieces or any(p.ndim != 1 or p.dtype != pieces[0].dtype for p in pieces):
        raise _Unreadable("has pieces that do not go together")
    if math.prod(shape) != sum(map(len, pieces)):
        raise _Unreadable(f"of shape {shape} has {sum(map(len, pieces))} entries")
    return np.concatenate(pieces).reshape(shape)


def _numbered(table: Mapping[str, Any], key: str) -> list[Any]:
    entries = table.get(key)
    if not isinstance(entries, Mapping) or set(entries) != {str(i) for i in range(len(entries))}:
        raise _Unreadable(f"is in pieces without a '{key}'")
    return [entries[str(i)] for i in range(len(entries))]
