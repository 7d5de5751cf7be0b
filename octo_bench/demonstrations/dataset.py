"""Demonstration files in robomimic's HDF5 layout (see `layout`), read into arrays.

Beyond that layout the `data` group names the environment, the instruction, the scripted expert and
the versions, and each demo its seed. A file is checked as a whole before anything of it is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from octo_bench.definitions.environments import PROPRIO_SIZE_PER_ARM, environment
from octo_bench.demonstrations.layout import (
    GRIPPERS,
    IMAGES,
    LARGEST_ACTION,
    LARGEST_PROPRIO,
    SECOND_WRIST,
    check_demonstration,
    demo_names,
    demonstration,
    image_names,
    integer,
    json_value,
    numbers,
    open_checked,
    shapes,
    text,
)
from octo_bench.errors import BadDemonstrations, UnknownName
from octo_bench.files import atomic_path, sha256_file

FORMAT = 1
_FIX = "collect it again with `octo-bench collect`"


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps; `actions[t]` is the clean action for the observation at t.

    Images (T, H, W, 3) uint8, `proprio` (T, P) float32, `actions` (T, A) float32.
    `image_wrist_2` is from the second arm's wrist, None with one arm.
    """

    image_primary: np.ndarray
    image_wrist: np.ndarray
    proprio: np.ndarray
    actions: np.ndarray
    seed: int
    image_wrist_2: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.proprio), *(len(getattr(self, image)) for image in self.cameras)}
        if lengths != {len(self.actions)}:
            raise ValueError("observations and actions of an episode must be equally many")

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


def image_sides(episode: Episode) -> set[int]:
    """Every height and width of an episode's images, in pixels."""
    images = (getattr(episode, camera) for camera in episode.cameras)
    return {side for image in images for side in image.shape[1:3]}


def fingerprint_of(demonstrations: Demonstrations) -> str:
    """Hex digest of what training reads of demonstrations but their images: the file's hash,
    the episodes chosen from it, their actions and proprioception, the words and the grippers."""
    digest = hashlib.sha256()
    for part in (
        demonstrations.sha256,
        demonstrations.embodiment,
        json.dumps([demonstrations.instruction, *demonstrations.paraphrases]),
        json.dumps(demonstrations.grippers),
    ):
        digest.update(f"{part}\n".encode())
    for episode in demonstrations.episodes:
        digest.update(f"{episode.seed} {episode.actions.shape} {episode.proprio.shape}\n".encode())
        digest.update(np.ascontiguousarray(episode.actions).tobytes())
        digest.update(np.ascontiguousarray(episode.proprio).tobytes())
    return digest.hexdigest()


def drawn(demos: int, draw: int, per_draw: int) -> range:
    """Which demonstrations make up a subset: positions in the order in which they were collected.

    Every draw has `per_draw` demonstrations of its own, one draw after the other, and a subset is
    the first `demos` of them. So draws are disjoint, and the subsets of one draw are nested.

    Args:
        demos: size of the subset, at most `per_draw`.
        draw: its number, from 0.
        per_draw: size of the largest subset of a draw.

    Raises:
        ValueError: for a subset that is larger than its draw.
    """
    if demos > per_draw:
        raise ValueError(f"a draw of {per_draw} has no {demos} demonstrations")
    return range(draw * per_draw, draw * per_draw + demos)


def read_demonstrations(
    path: Path,
    demos: int | None = None,
    draw: int = 0,
    per_draw: int | None = None,
    *,
    mapped: bool = False,
) -> Demonstrations:
    """Read a file, or the subset of `demos` demonstrations that `draw` chooses, see `drawn`.

    Args:
        demos: how many; None for all of the file, of which there is no other draw.
        draw: number of the subset.
        per_draw: demonstrations that every draw has of its own; `demos` if not given.
        mapped: unpack all images once into a file beside this one and map them from there, so
            that any number of processes share one copy, which need not fit into memory. The last
            of them removes it.

    Raises:
        BadDemonstrations: for a file that is not an HDF5 file, was cut off, lacks something, holds
            arrays
            that do not go together or values that cannot be, or has fewer demonstrations than
            asked for.
    """
    path = Path(path)
    with open_checked(path) as file:
        names = demo_names(file)
        chosen = names if demos is None else _chosen(path, names, demos, draw, per_draw)
        _check_together(path, [demonstration(file, name) for name in names])
        data = file["data"]
        paraphrases = json_value(data, "paraphrases")
        if not isinstance(paraphrases, list) or not all(isinstance(p, str) for p in paraphrases):
            raise BadDemonstrations(path, "has paraphrases that are no texts", _FIX)
        if not mapped:
            _require_memory(path, [data[name] for name in chosen])
        sha256 = sha256_file(path)
        views = _mapped_frames(path, sha256, file) if mapped else {}
        return Demonstrations(
            env_id=text(data, "env_id"),
            embodiment=text(data, "embodiment"),
            task=text(data, "task"),
            instruction=text(data, "instruction"),
            paraphrases=tuple(paraphrases),
            episodes=tuple(_read_episode(data[name], views.get(name)) for name in chosen),
            sha256=sha256,
            grippers=_grippers(path, data),
        )


def _chosen(
    path: Path, names: Sequence[str], demos: int, draw: int, per_draw: int | None
) -> list[str]:
    per_draw = demos if per_draw is None else per_draw
    positions = drawn(demos, draw, per_draw)
    if positions.stop > len(names):
        needs = f"draw {draw} of {per_draw} each needs {positions.stop}"
        problem = f"has {len(names)} demonstrations, "
        problem += needs if draw else f"{demos} were asked for"
        fix = f"collect more with `octo-bench collect --demos {positions.stop}`"
        raise BadDemonstrations(path, problem, fix)
    return [names[position] for position in positions]


def _check_together(path: Path, demos: Sequence[h5py.Group]) -> None:
    """Check every demonstration, and that all are of one robot and one pair of cameras."""
    check_demonstration(demos[0])
    entries = demos[0]["obs/proprio"].shape[1]
    if entries % PROPRIO_SIZE_PER_ARM:
        raise BadDemonstrations(
            path,
            f"has {entries} entries of proprioception, {PROPRIO_SIZE_PER_ARM} an arm are read",
            "it is of an earlier version; collect it again with `octo-bench collect`",
        )
    for demo in demos:
        check_demonstration(demo)
        if shapes(demo) != shapes(demos[0]):
            problem = f"{demo.name} has arrays of other shapes than {demos[0].name}"
            raise BadDemonstrations(path, problem, _FIX)


def _grippers(path: Path, data: h5py.Group) -> tuple[int, ...]:
    """Which entries of an action are gripper commands.

    The file says so. Older files do not, and name one of our environments, which does.
    """
    entries = data[demo_names(data.file)[0]]["actions"].shape[1]
    fix = f"set the attribute '{GRIPPERS}' of 'data' to their indices in JSON, such as \"[6]\""
    if GRIPPERS in data.attrs:
        listed = json_value(data, GRIPPERS)
        is_list = isinstance(listed, list) and all(type(each) is int for each in listed)
        if not (is_list and all(0 <= each < entries for each in listed)):
            problem = f"'{GRIPPERS}' lists values that are not entries of {entries}-entry actions"
            raise BadDemonstrations(path, problem, fix)
        return tuple(listed)
    try:
        return environment(text(data, "env_id").rpartition("-v")[0]).gripper_entries
    except UnknownName as error:
        problem = "does not say which entries of an action are grippers"
        raise BadDemonstrations(path, problem, fix) from error


def _require_memory(path: Path, demos: Sequence[h5py.Group]) -> None:
    """Refuse images that do not fit into memory once they are unpacked."""
    images = (demo["obs"][name] for demo in demos for name in image_names(demo["obs"]))
    needed = sum(image.size for image in images)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there // 2:
        problem = f"unpacks to {needed / 1e9:.0f} GB of images, and memory is {there / 1e9:.0f} GB"
        raise BadDemonstrations(path, problem, "use fewer of its demonstrations")


def _read_episode(demo: h5py.Group, views: Sequence[np.ndarray] | None) -> Episode:
    names = image_names(demo["obs"])
    images = views or [demo["obs"][name][()] for name in names]
    return Episode(
        **dict(zip(names, images, strict=True)),
        proprio=numbers(demo["obs/proprio"], LARGEST_PROPRIO),
        actions=numbers(demo["actions"], LARGEST_ACTION),
        seed=integer(demo, "seed"),
    )


def _mapped_frames(
    path: Path, sha256: str, file: h5py.File
) -> Mapping[str, tuple[np.ndarray, ...]]:
    """Every demonstration's images, in their order, from one file of raw pixels beside `path`.

    The file is named for the content, so that one of other demonstrations is never taken.
    """
    names = demo_names(file)
    images = [
        [demo["obs"][image] for image in image_names(demo["obs"])]
        for demo in (file["data"][name] for name in names)
    ]
    raw = path.with_name(f".{path.stem}-{sha256[:16]}.frames")
    for old in path.parent.glob(f".{path.stem}-*.frames"):
        if old != raw:  # of a process that was killed, or of what the file was before
            _remove_unused(old.open("rb"), old)
    pixels = _map(raw, sum(view.size for views in images for view in views), images)
    found, offset = {}, 0
    for name, views in zip(names, images, strict=True):
        ends = np.cumsum([offset, *(view.size for view in views)])
        found[name] = tuple(
            pixels[begin:end].reshape(view.shape)
            for view, begin, end in zip(views, ends, ends[1:], strict=False)
        )
        offset = int(ends[-1])
    return found


def _map(raw: Path, size: int, images: Sequence[Sequence[h5py.Dataset]]) -> np.ndarray:
    """The pixels (`size`,) in the file `raw`, which is written if it is not there.

    A process that maps it holds a shared lock on it until the arrays are gone.
    """
    while True:
        if not raw.exists() or raw.stat().st_size != size:
            with atomic_path(raw) as temporary, temporary.open("wb") as out:
                for views in images:
                    for view in views:
                        out.write(view[()].data)
        handle = raw.open("rb")
        fcntl.flock(handle, fcntl.LOCK_SH)
        if raw.exists() and raw.stat().st_ino == os.fstat(handle.fileno()).st_ino:
            break
        handle.close()  # its last user has removed it since
    mapping = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
    weakref.finalize(mapping, _remove_unused, handle, raw)
    return np.frombuffer(mapping, np.uint8)


def _remove_unused(handle: BinaryIO, raw: Path) -> None:
    """Let go of a file of pixels, and remove it if no other process has it mapped."""
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if raw.exists() and raw.stat().st_ino == os.fstat(handle.fileno()).st_ino:
            raw.unlink()
