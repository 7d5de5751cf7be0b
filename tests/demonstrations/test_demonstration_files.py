"""Demonstration files that are damaged, or not what they say: refused in one line, or healed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.synthetic_files import write_demonstrations
from octo_bench.demonstrations.dataset import Episode, read_demonstrations
from octo_bench.errors import BadDemonstrations, BadFile
from octo_bench.studies.tasks import collect_demonstrations


def replace_array(
    name: str, change: Callable[[np.ndarray], np.ndarray]
) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return spoil


def one_more(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, values[-1:]])


def with_entry(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[1, 2] = value
        return values

    return change


def sparse(file: h5py.File) -> None:
    demo = file["data/demo_1"]
    del demo["actions"]
    demo.create_dataset("actions", (10_000, 7), np.float32, chunks=(100, 7))


def external(file: h5py.File) -> None:
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = h5py.ExternalLink("other.hdf5", "/data/demo_1/actions")


def soft(file: h5py.File) -> None:
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = h5py.SoftLink("/data/demo_1/actions")


def external_storage(file: h5py.File) -> None:
    shape = file["data/demo_1/actions"].shape
    del file["data/demo_1/actions"]
    file["data/demo_1"].create_dataset(
        "actions", shape, np.float32, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    )


def a_group(file: h5py.File) -> None:
    del file["data/demo_1/actions"]
    file["data/demo_1"].create_group("actions")


def an_array(file: h5py.File) -> None:
    del file["data/demo_1"]
    file["data/demo_1"] = np.zeros(3)


def no_seed(file: h5py.File) -> None:
    del file["data/demo_1"].attrs["seed"]


def a_vector_of_seeds(file: h5py.File) -> None:
    file["data/demo_1"].attrs["seed"] = np.arange(3)


def deep_paraphrases(file: h5py.File) -> None:
    file["data"].attrs["paraphrases"] = "[" * 20_000


def another_name(file: h5py.File) -> None:
    file["data"].move("demo_1", "demo_one")


ACTIONS, PROPRIO = "data/demo_1/actions", "data/demo_1/obs/proprio"
IMAGE = "data/demo_1/obs/image_primary"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (replace_array(PROPRIO, one_more), "obs/proprio has 8 steps, /data/demo_1/actions has 7"),
        (replace_array(IMAGE, one_more), "image_primary has 8 steps"),
        (replace_array(ACTIONS, with_entry(np.nan)), "actions has a value that is not finite"),
        (replace_array(ACTIONS, with_entry(1e30)), "has the value 1e.30; at most 10 is plausible"),
        (replace_array(PROPRIO, with_entry(np.inf)), "proprio has a value that is not finite"),
        (replace_array(PROPRIO, with_entry(1e30)), "proprio has the value 1e.30"),
        (
            replace_array(ACTIONS, lambda a: a.astype("S8")),
            "actions has an unexpected shape or type: 7x7 of",
        ),
        (replace_array(ACTIONS, lambda a: a[:, :6]), "arrays of other shapes than /data/demo_0"),
        (replace_array(IMAGE, lambda a: a.astype(np.uint16)), "not an RGB image"),
        (sparse, "actions declares more data than the file has"),
        (external, "actions is a link to another place"),
        (soft, "actions is a link to another place"),
        (external_storage, "takes its values from other files"),
        (a_group, "actions is not an array"),
        (an_array, "demo_1 is not a group"),
        (no_seed, "lacks the attribute 'seed'"),
        (a_vector_of_seeds, "'seed' of /data/demo_1 is not a single value"),
        (deep_paraphrases, "no readable HDF5|nested too deeply"),
        (another_name, "'demo_one', which is not a demonstration"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, spoil: Callable[[h5py.File], None], problem: str
) -> None:
    path = write_demonstrations(tmp_path / "lift.hdf5")
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(BadDemonstrations, match=problem):
        read_demonstrations(path)
    assert os.listdir(tmp_path) == ["lift.hdf5"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "long name"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lift.hdf5"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path = tmp_path / ("x" * 5000)
    with pytest.raises(BadDemonstrations):
        read_demonstrations(path)


def test_an_episode_whose_lengths_differ_is_never_made() -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="equally many"):
        Episode(images, images, np.zeros((4, 11)), np.zeros((3, 7)), 0)


def cut_off(parts: Path) -> None:
    part = parts / "000002-9.hdf5"
    part.write_bytes(part.read_bytes()[:-3000])


def half_written(parts: Path) -> None:
    (parts / ".000003-11.hdf5.99.tmp").write_bytes(b"half")
    (parts / "assembled.tmp").write_bytes(b"half")


@pytest.mark.parametrize(
    "spoil", [cut_off, lambda parts: (parts / "000001-7.hdf5").unlink(), half_written]
)
def test_a_collection_goes_on_from_its_last_whole_demonstration(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    whole = write_demonstrations(tmp_path / "whole.hdf5", 4).read_bytes()
    path = write_demonstrations(tmp_path / "lift.hdf5", 1)
    _interrupt(path, 4)
    spoil(tmp_path / ".lift.hdf5.parts")
    write_demonstrations(path, 4)
    assert path.read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["lift.hdf5", "whole.hdf5"]


def _interrupt(path: Path, demos: int) -> None:
    """Go on with a collection until it has two parts."""
    process = multiprocessing.get_context("fork").Process(target=_stopped, args=(path, demos))
    process.start()
    process.join(30)
    assert process.exitcode == 9


def _stopped(path: Path, demos: int) -> None:
    from octo_bench.demonstrations.unfinished import Unfinished

    Unfinished.finish = lambda *_: os._exit(9)  # as a kill does
    add = Unfinished.add

    def adding(self: Unfinished, *arguments: object) -> None:
        add(self, *arguments)
        if len(self._parts) == 2:
            os._exit(9)

    Unfinished.add = adding
    write_demonstrations(path, demos)


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_demonstrations(tmp_path / "whole.hdf5", 3).read_bytes()
    path = tmp_path / "lift.hdf5"
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if "000001" in self.name:
            write(self, content[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadFile, match=r"lift\.hdf5: no space left to write it"):
        write_demonstrations(path, 3)
    monkeypatch.undo()
    assert len(list((tmp_path / ".lift.hdf5.parts").glob("*.hdf5"))) == 1
    write_demonstrations(path, 3)
    assert path.read_bytes() == whole


def test_two_processes_do_not_collect_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_collect_slowly, args=(path,))
    process.start()
    try:
        for _ in range(300):
            if any(tmp_path.glob(".lift.hdf5.parts/*.hdf5")):
                break
            time.sleep(0.02)
        with pytest.raises(BadFile, match="another process is writing it; wait for it"):
            write_demonstrations(path, 1)
    finally:
        process.kill()
        process.join()
    write_demonstrations(path, 2)
    assert len(read_demonstrations(path).episodes) == 2


def _collect_slowly(path: Path) -> None:
    from octo_bench.demonstrations.unfinished import Unfinished

    Unfinished.finish = lambda *_: time.sleep(60)
    write_demonstrations(path, 1)


def test_a_study_collects_again_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lift.hdf5"
    whole = write_demonstrations(path, 2).read_bytes()
    path.write_bytes(whole[:5000])

    def collect(env: str, count: int, out: Path, **_: object) -> object:
        from octo_bench.demonstrations.unfinished import CollectionSummary

        write_demonstrations(out, count)
        return CollectionSummary(count, count, 13)

    monkeypatch.setattr("octo_bench.demonstrations.collecting.collect", collect)
    assert collect_demonstrations("Lift-Panda", 2, 5, path, 1)["kept"] == 2
    assert path.read_bytes() == whole
