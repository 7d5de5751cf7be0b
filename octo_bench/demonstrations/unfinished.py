"""A collection in the making: each demonstration a small file, put together at the end.

Beside `lift.hdf5` there is the folder `.lift.hdf5.parts` while it is collected. A demonstration
appears in it whole or not at all, so that a kill or a full disk at any moment costs the one that
was being written; `lift.hdf5` appears whole, too. What goes into it is the same bit for bit
however often the collection was interrupted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from octo_bench.demonstrations.layout import (
    IMAGES,
    SECOND_WRIST,
    check_demonstration,
    demo_names,
    integer,
    open_checked,
)
from octo_bench.errors import BadDemonstrations, BadFile
from octo_bench.files import atomic_path, explain_full_disk
from octo_bench.processes.exclusive import exclusive
from octo_bench.processes.interrupts import uninterrupted

_DEMO = "demo"
_ASSEMBLED = "assembled.tmp"
_ROOM_FOR_HEADER = 2**20


@dataclass(frozen=True)
class CollectionSummary:
    """Demonstrations kept, episodes tried, steps kept."""

    kept: int
    tried: int
    steps: int


@dataclass(frozen=True)
class _Part:
    """A whole demonstration that is not in the file yet."""

    file: Path
    number: int
    seed: int
    steps: int


class Unfinished:
    """What is there of the collection in the file `out`, for the one process that adds to it.

    Attributes:
        summary: what is there, whole.
    """

    def __init__(
        self,
        out: Path,
        first_seed: int,
        write_header: Callable[[h5py.Group], None],
        require_same: Callable[[Path, Path], None],
    ) -> None:
        self._out, self._first_seed = out, first_seed
        self._folder = _parts_folder(out)
        self._write_header, self._require_same = write_header, require_same
        for half_written in self._folder.glob("*.tmp"):
            half_written.unlink()
        self._parts: list[_Part] = []
        self.summary = CollectionSummary(0, 0, 0)
        if out.exists():
            require_same(out, out)
            self.summary = _progress_of(out)
        for part in self._whole_parts():
            self._parts.append(part)
            self._count(part)

    def add(
        self,
        seed: int,
        arrays: Mapping[str, np.ndarray],
        attributes: Mapping[str, object],
        steps: int,
    ) -> None:
        """Keep the demonstration of `seed`, the first success after those that are there.

        Args:
            arrays: by their paths in the demonstration.
            attributes: of the demonstration.
            steps: how long it is.

        Raises:
            BadFile: when the disk is full.
        """
        number = self.summary.kept
        file = self._folder / f"{number:06d}-{seed}.hdf5"
        # HDF5 writes to memory, so that what the disk does is known, and at once.
        with uninterrupted():
            with h5py.File(file.name, "w", driver="core", backing_store=False) as image:
                self._write_header(image.create_group("data"))
                demo = image.create_group(_DEMO)
                for name, values in arrays.items():
                    packed = name.removeprefix("obs/") in (*IMAGES, SECOND_WRIST)
                    packing = {"compression": "gzip", "compression_opts": 1} if packed else {}
                    demo.create_dataset(name, data=values, **packing)
                demo.attrs.update(attributes)
                image.flush()
                content = image.id.get_file_image()
            with atomic_path(file, self._out) as temporary:
                temporary.write_bytes(content)
        part = _Part(file, number, seed, steps)
        self._parts.append(part)
        self._count(part)

    def tried(self, seed: int) -> None:
        """Count the attempt at `seed`, which failed."""
        self.summary = CollectionSummary(
            self.summary.kept, seed - self._first_seed + 1, self.summary.steps
        )

    def finish(self) -> None:
        """Put the file together and remove the parts.

        Raises:
            BadFile: when the disk is full.
        """
        if self._parts:
            assembled = self._folder / _ASSEMBLED
            self._require_room()
            with explain_full_disk(self._out):
                self._assemble(assembled)
                with assembled.open("rb+") as handle:
                    os.fsync(handle.fileno())
                os.replace(assembled, self._out)
        shutil.rmtree(self._folder)

    def _require_room(self) -> None:
        """HDF5 does not recover from a disk that gets full, so that is looked at before."""
        files = [part.file for part in self._parts]
        files += [self._out] if self._out.exists() else []
        needed = sum(file.stat().st_size for file in files) + _ROOM_FOR_HEADER
        if shutil.disk_usage(self._folder).free < needed:
            raise BadFile(self._out, "no space left to write it", "free some disk space")

    def _assemble(self, path: Path) -> None:
        with uninterrupted(), h5py.File(path, "w") as file:
            data = file.create_group("data")
            self._write_header(data)
            if self._out.exists():
                with h5py.File(self._out) as old:
                    for name in demo_names(old):
                        old.copy(old["data"][name], data, name)
            for part in self._parts:
                with h5py.File(part.file) as source:
                    source.copy(_DEMO, data, f"demo_{part.number}")
            data.attrs.update(tried=self.summary.tried, total=self.summary.steps)

    def _count(self, part: _Part) -> None:
        tried = part.seed - self._first_seed + 1
        self.summary = CollectionSummary(part.number + 1, tried, self.summary.steps + part.steps)

    def _whole_parts(self) -> Iterator[_Part]:
        """The parts that go on from the file, up to the first that is missing or damaged.

        All others are removed.
        """
        files = sorted(self._folder.glob("*.hdf5"))
        number, seed = self.summary.kept, self._first_seed + self.summary.tried - 1
        for file in files:
            part = self._read_part(file)
            if part is None or part.number != number or part.seed <= seed:
                file.unlink()
                continue
            number, seed = number + 1, part.seed
            yield part

    def _read_part(self, file: Path) -> _Part | None:
        """A part, None if it is damaged.

        Raises:
            BadDemonstrations: for one of another collection.
        """
        number, _, seed = file.stem.partition("-")
        try:
            with open_checked(file) as opened:
                steps = check_demonstration(opened[_DEMO])
                if not number.isdecimal() or str(integer(opened[_DEMO], "seed")) != seed:
                    return None
        except BadDemonstrations:
            return None
        self._require_same(file, self._folder)
        return _Part(file, int(number), int(seed), steps)


@contextmanager
def unfinished(
    out: Path,
    first_seed: int,
    write_header: Callable[[h5py.Group], None],
    require_same: Callable[[Path, Path], None],
) -> Iterator[Unfinished]:
    """The collection in `out`, to be added to; what is kept stays there for the next one.

    Args:
        first_seed: the seed that was tried first.
        write_header: puts what is to be said of all demonstrations on the group of the file.
        require_same: raises `BadDemonstrations` for a file of another collection, naming the
            second path.

    Raises:
        BadDemonstrations: for a file of something else.
        InUse: when another process is collecting into it.
    """
    folder = _parts_folder(out)
    with exclusive(out):
        folder.mkdir(exist_ok=True)
        collection = Unfinished(out, first_seed, write_header, require_same)
        try:
            yield collection
        finally:
            # Nothing to go on from: leave nothing behind.
            if folder.exists() and not any(folder.glob("*.hdf5")):
                shutil.rmtree(folder)


def discard(out: Path) -> None:
    """Remove a collection, finished or not."""
    out.unlink(missing_ok=True)
    shutil.rmtree(_parts_folder(out), ignore_errors=True)


def _parts_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")


def _progress_of(out: Path) -> CollectionSummary:
    with open_checked(out) as file:
        steps = [check_demonstration(file["data"][name]) for name in demo_names(file)]
        return CollectionSummary(len(steps), integer(file["data"], "tried"), sum(steps))
