"""The layout of demonstration files, and a check that a file has it: robomimic's, in HDF5.

`data/demo_<i>/{obs/*, actions, states}`, as robomimic's "Dataset Structure" page describes it. An
HDF5 file may point to other files, declare arrays of any size without holding them, and put
anything in place of anything. Here every link is a hard one, every array is there as large as it
says, and lengths agree, before anything of it is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from octo_bench.errors import BadDemonstrations
from octo_bench.reading import parse_json, require_regular

IMAGES = ("image_primary", "image_wrist")
"""The images that every file has."""
SECOND_WRIST = "image_wrist_2"
"""The image that files of two arms have, too."""
GRIPPERS = "grippers"
"""Attribute of `data`: JSON, the entries of an action that are gripper commands."""
LONGEST = 20_000
"""Steps of a demonstration: 17 minutes."""
LARGEST_IMAGE = 2048
"""Pixels of a side."""
WIDEST = 100_000
"""Entries a step of anything that is not an image."""
LARGEST_ACTION = 10.0
"""In units of the action, of which environments execute 1 at most."""
LARGEST_PROPRIO = 1000.0
"""Metres, radians and shares of the gripper's opening."""

_BESIDE = ("actions_executed", "states")
"""What replaying needs and training does not."""
_LARGEST_CHUNK = 2**28
_LONGEST_TEXT = 2**25
_FIX = "collect it again with `octo-bench collect`"

Item = TypeVar("Item", h5py.Group, h5py.Dataset)


class _Unusable(ValueError):
    """What is wrong with a file; the caller knows which."""


@contextmanager
def open_checked(path: Path) -> Iterator[h5py.File]:
    """A demonstration file, open; whatever it lacks becomes an error that names it.

    Raises:
        BadDemonstrations: for a file that is not an HDF5 file, was cut off, or has another layout.
    """
    require_regular(path, BadDemonstrations, _FIX, missing="collect it with `octo-bench collect`")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _Unusable as problem:
        raise BadDemonstrations(path, str(problem), _FIX) from problem
    except KeyError as missing:
        problem = f"lacks a key ({missing.args[0] if missing.args else missing})"
        raise BadDemonstrations(path, problem, _FIX) from missing
    # What h5py and HDF5 raise for content that is damaged is not documented.
    except (
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ) as broken:
        problem = "is not a readable HDF5 file, or was cut off"
        raise BadDemonstrations(path, problem, _FIX) from broken


def demo_names(file: h5py.File) -> list[str]:
    """The demonstrations of an open file, in the order in which they were collected."""
    data = _child(file, "data", h5py.Group)
    names = list(data)
    for name in names:
        if not re.fullmatch("demo_[0-9]{1,9}", name):
            raise _Unusable(f"'data' has '{name[:60]}', which is not a demonstration")
    if not names:
        raise _Unusable("has no demonstrations")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def demonstration(file: h5py.File, name: str) -> h5py.Group:
    """A demonstration of an open file."""
    return _child(_child(file, "data", h5py.Group), name, h5py.Group)


def check_demonstration(demo: h5py.Group) -> int:
    """Check that everything in a demonstration is there and goes together; returns its steps."""
    where = demo.name
    if not isinstance(demo, h5py.Group):
        raise _Unusable(f"{where} is not a group")
    observations = _child(demo, "obs", h5py.Group)
    actions = _array(demo, "actions", "f", 2)
    steps = actions.shape[0]
    if not 1 <= steps <= LONGEST:
        raise _Unusable(f"{where} has {steps} steps; 1 to {LONGEST} are read")
    arrays = [_array(observations, "proprio", "f", 2)]
    arrays += [
        _array(demo, name, "f", 2) for name in ("actions_executed", "states") if name in demo
    ]
    for image in image_names(observations):
        pixels = _array(observations, image, "u", 4)
        height, width, channels = pixels.shape[1:]
        if pixels.dtype != np.uint8 or channels != 3 or max(height, width) > LARGEST_IMAGE:
            raise _Unusable(
                f"{pixels.name} is {height} x {width} x {channels} of {pixels.dtype}, "
                f"not an RGB image of uint8 with at most {LARGEST_IMAGE} pixels a side"
            )
        arrays.append(pixels)
    for array in arrays:
        if len(array) != steps:
            raise _Unusable(f"{array.name} has {len(array)} steps, {where}/actions has {steps}")
    if integer(demo, "num_samples", steps) != steps:
        raise _Unusable(f"{where} has another number of steps than its attribute says")
    return steps


def image_names(observations: h5py.Group) -> tuple[str, ...]:
    """The images of a demonstration, in their order."""
    return (*IMAGES, SECOND_WRIST) if SECOND_WRIST in observations else IMAGES


def shapes(demo: h5py.Group) -> tuple[tuple[int, ...], ...]:
    """What demonstrations of one file have in common: shapes of a step of what is read."""
    names = ("actions", "obs/proprio", *(f"obs/{image}" for image in image_names(demo["obs"])))
    return tuple(demo[name].shape[1:] for name in names)


def numbers(array: h5py.Dataset, largest: float = math.inf) -> np.ndarray:
    """The values of an array that is checked, float32, all finite and at most `largest`."""
    values = array[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise _Unusable(f"{array.name} has a value that is not finite")
    found = float(np.abs(values).max(initial=0.0))
    if found > largest:
        raise _Unusable(f"{array.name} has the value {found:.3g}; at most {largest:g} is plausible")
    return values


def text(group: h5py.Group, name: str) -> str:
    """An attribute that is a text."""
    value = _attribute(group, name)
    value = value.decode("utf-8") if isinstance(value, bytes) else value
    if not isinstance(value, str):
        raise _Unusable(f"the attribute '{name}' of {group.name} is not text")
    return value


def json_value(group: h5py.Group, name: str) -> Any:
    """The value of an attribute that is a JSON text."""
    try:
        return parse_json(text(group, name))
    except ValueError as broken:
        raise _Unusable(
            f"the attribute '{name}' of {group.name} is not JSON ({broken})"
        ) from broken


def integer(group: h5py.Group, name: str, default: int | None = None) -> int:
    """An attribute that is a whole number, or `default` where there is none."""
    if default is not None and name not in group.attrs:
        return default
    value = _attribute(group, name)
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise _Unusable(f"the attribute '{name}' of {group.name} is not a whole number")
    return int(value)


def _attribute(group: h5py.Group, name: str) -> object:
    if name not in group.attrs:
        raise _Unusable(f"lacks the attribute '{name}' of {group.name}")
    held = group.attrs.get_id(name)
    if held.shape != () or held.get_storage_size() > _LONGEST_TEXT:
        raise _Unusable(f"the attribute '{name}' of {group.name} is not a single value")
    return group.attrs[name]


def _child(group: h5py.Group, name: str, kind: type[Item]) -> Item:
    """What is in a group under a name, which must not be a link to elsewhere."""
    link = group.get(name, getlink=True)
    where = f"{group.name.rstrip('/')}/{name}"
    if link is None:
        raise _Unusable(f"lacks '{where}'")
    if not isinstance(link, h5py.HardLink):
        raise _Unusable(f"{where} is a link to another place, which is not followed")
    item = group[name]
    if not isinstance(item, kind):
        wanted = "a group" if kind is h5py.Group else "an array"
        raise _Unusable(f"{where} is not {wanted}")
    return item


def _array(group: h5py.Group, name: str, kinds: str, axes: int) -> h5py.Dataset:
    """An array that is in the file whole, as large as it says."""
    array = _child(group, name, h5py.Dataset)
    where = array.name
    if array.shape is None or array.ndim != axes or array.dtype.kind not in kinds:
        shape = "nothing" if array.shape is None else "x".join(map(str, array.shape))
        raise _Unusable(f"{where} has an unexpected shape or type: {shape} of {array.dtype}")
    if array.is_virtual or array.external:
        raise _Unusable(f"{where} takes its values from other files, which are not read")
    steps, *rest = array.shape
    if not 1 <= steps <= LONGEST:
        raise _Unusable(f"{where} has {steps} steps; 1 to {LONGEST} are read")
    if not 1 <= math.prod(rest) <= max(WIDEST, 3 * LARGEST_IMAGE**2):
        raise _Unusable(f"{where} has {math.prod(rest)} entries a step")
    if array.chunks is None:
        whole = array.id.get_storage_size() >= array.size * array.dtype.itemsize
    else:
        if math.prod(array.chunks) * array.dtype.itemsize > _LARGEST_CHUNK:
            raise _Unusable(f"{where} is packed in pieces that are too large")
        wanted = math.prod(
            -(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)
        )
        whole = array.id.get_num_chunks() == wanted
    if not whole:
        raise _Unusable(f"{where} declares more data than the file has")
    return array
