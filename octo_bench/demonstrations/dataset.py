"""Demonstration files in robomimic's HDF5 layout: how they are laid out, read and checked.

`data/demo_<i>/{obs/*, actions, states}`, with `env_args` and the episode's `model_file` as
attributes, as robomimic's "Dataset Structure" page describes it. Beyond that the `data` group
names the environment, the instruction, the demonstrator and the versions, and each demo its seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from octo_bench.definitions import PROPRIO_SIZE_PER_ARM, environment
from octo_bench.errors import BadDemonstrations, UnknownName
from octo_bench.files import atomic_path, sha256_file

FORMAT = 1
IMAGES = ("image_primary", "image_wrist")
"""The images that every file has."""
SECOND_WRIST = "image_wrist_2"
"""The image that files of two arms have, too."""
GRIPPERS = "grippers"
"""Attribute of `data`: JSON, the entries of an action that are gripper commands."""


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps; `actions[t]` is the clean answer to the observation at t.

    Images (T, H, W, 3) uint8, `proprio` (T, P) float32, `actions` (T, A) float32.
    `image_wrist_2` is from the second arm's wrist, None with one arm.
    """

    image_primary: np.ndarray
    image_wrist: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    seed: int
    image_wrist_2: np.ndarray | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """The images that there are, by name."""
        return IMAGES if self.image_wrist_2 is None else (*IMAGES, SECOND_WRIST)


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations of one task on one embodiment.

    `sha256` is that of their file. `grippers` are the entries of an action that are gripper
    commands: those are not scaled.
    """

    env_id: str
    embodiment: str
    task: str
    instruction: str
    paraphrases: tuple[str, ...]
    episodes: tuple[Episode, ...]
    sha256: str
    grippers: tuple[int, ...]


def read_demonstrations(
    path: Path, demos: int | None = None, draw: int = 0, *, mapped: bool = False
) -> Demonstrations:
    """Read a file, or the subset of `demos` demonstrations that `draw` chooses.

    Subsets of one draw are nested: its first 50 are among its first 100. Draw 0 takes them in
    the order of the file, every other draw in an order of its own.

    Args:
        mapped: unpack all images once into a file beside this one and map them from there, so
            that any number of processes share one copy, which need not fit into memory.

    Raises:
        BadDemonstrations: for a file that is no HDF5, was cut off, lacks something, or has fewer
            demonstrations than asked for.
    """
    path = Path(path)
    if not path.is_file():
        raise BadDemonstrations(path, "no such file", "collect it with `octo-bench collect`")
    try:
        with h5py.File(path) as file:
            names = demo_names(file)
            if demos is not None and demos > len(names):
                raise BadDemonstrations(
                    path,
                    f"has {len(names)} demonstrations, {demos} were asked for",
                    f"collect more with `octo-bench collect --demos {demos}`",
                )
            order = np.arange(len(names))
            if draw:
                order = np.random.default_rng(draw).permutation(len(names))
            chosen = [names[index] for index in order[:demos]]
            data = file["data"]
            sha256 = sha256_file(path)
            _check_proprio(path, data[chosen[0]]["obs/proprio"].shape[1])
            views = _mapped_frames(path, sha256, file) if mapped else {}
            return Demonstrations(
                env_id=str(data.attrs["env_id"]),
                embodiment=str(data.attrs["embodiment"]),
                task=str(data.attrs["task"]),
                instruction=str(data.attrs["instruction"]),
                paraphrases=tuple(json.loads(data.attrs["paraphrases"])),
                episodes=tuple(_read_episode(data[name], views.get(name)) for name in chosen),
                sha256=sha256,
                grippers=_grippers(path, data),
            )
    except KeyError as missing:
        raise BadDemonstrations(
            path, f"lacks something ({missing.args[0]})", "collect it with `octo-bench collect`"
        ) from missing
    except OSError as broken:
        raise BadDemonstrations(
            path, "is no readable HDF5 file, or was cut off", "collect it with `octo-bench collect`"
        ) from broken


def _check_proprio(path: Path, entries: int) -> None:
    if entries % PROPRIO_SIZE_PER_ARM:
        raise BadDemonstrations(
            path,
            f"has {entries} entries of proprioception, {PROPRIO_SIZE_PER_ARM} an arm are read",
            "it is of an earlier version; collect it again with `octo-bench collect`",
        )


def _grippers(path: Path, data: h5py.Group) -> tuple[int, ...]:
    """Which entries of an action are gripper commands.

    The file says so. Older files do not, and name one of our environments, which does.
    """
    entries = data[demo_names(data.file)[0]]["actions"].shape[1]
    fix = f"set the attribute '{GRIPPERS}' of 'data' to their indices in JSON, such as \"[6]\""
    if GRIPPERS in data.attrs:
        try:
            listed = json.loads(data.attrs[GRIPPERS])
        except (TypeError, ValueError) as error:
            raise BadDemonstrations(path, f"'{GRIPPERS}' is not JSON ({error})", fix) from error
        is_list = isinstance(listed, list) and all(type(each) is int for each in listed)
        if not (is_list and all(0 <= each < entries for each in listed)):
            problem = f"'{GRIPPERS}' lists something else than entries of {entries}-entry actions"
            raise BadDemonstrations(path, problem, fix)
        return tuple(listed)
    try:
        return environment(str(data.attrs["env_id"]).rpartition("-v")[0]).gripper_entries
    except UnknownName as error:
        problem = "does not say which entries of an action are grippers"
        raise BadDemonstrations(path, problem, fix) from error


def demo_names(file: h5py.File) -> list[str]:
    """The demonstrations of an open file, in the order in which they were collected."""
    return sorted(file["data"], key=lambda name: int(name.removeprefix("demo_")))


def _read_episode(demo: h5py.Group, views: Sequence[np.ndarray] | None) -> Episode:
    images = views or [demo[f"obs/{image}"][()] for image in _images(demo)]
    return Episode(
        **dict(zip(_images(demo), images, strict=True)),
        proprio=demo["obs/proprio"][()],
        actions=demo["actions"][()].astype(np.float32),
        seed=int(demo.attrs["seed"]),
    )


def _images(demo: h5py.Group) -> tuple[str, ...]:
    return (*IMAGES, SECOND_WRIST) if SECOND_WRIST in demo["obs"] else IMAGES


def _mapped_frames(
    path: Path, sha256: str, file: h5py.File
) -> Mapping[str, tuple[np.ndarray, ...]]:
    """Every demonstration's images, in their order, from one file of raw pixels beside `path`.

    The file is named for the content, so that one of other demonstrations is never taken.
    """
    names = demo_names(file)
    images = [
        [demo["obs"][image] for image in _images(demo)]
        for demo in (file["data"][name] for name in names)
    ]
    raw = path.with_name(f".{path.stem}-{sha256[:16]}.frames")
    if not raw.exists():
        with atomic_path(raw) as temporary, temporary.open("wb") as out:
            for views in images:
                for view in views:
                    out.write(view[()].data)
    found, offset = {}, 0
    pixels = np.asarray(np.memmap(raw, np.uint8, "r"))
    for name, views in zip(names, images, strict=True):
        ends = np.cumsum([offset, *(view.size for view in views)])
        found[name] = tuple(
            pixels[begin:end].reshape(view.shape)
            for view, begin, end in zip(views, ends, ends[1:], strict=False)
        )
        offset = int(ends[-1])
    return found
