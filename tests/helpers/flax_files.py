"""Arrays in msgpack as flax writes them, for tests of the reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np


def packed(array: np.ndarray, code: int = 1) -> msgpack.ExtType:
    """An array, or with code 3 a scalar."""
    return msgpack.ExtType(
        code, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
    )


def chunked(array: np.ndarray, sizes: list[int]) -> dict[str, Any]:
    """An array in flat pieces that end at `sizes`."""
    pieces = np.split(array.reshape(-1), sizes)
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): length for i, length in enumerate(array.shape)},
        "chunks": {str(i): packed(piece) for i, piece in enumerate(pieces)},
    }


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write values by their path; NumPy arrays are packed, others written as they are."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        *parents, last = name.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = packed(value) if isinstance(value, np.ndarray) else value
    path.write_bytes(msgpack.packb(tree, use_bin_type=True))
