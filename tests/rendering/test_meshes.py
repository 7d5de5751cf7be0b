"""The cache of simplified meshes: what is damaged is made again, and it can be done without."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from octo_bench.rendering import meshes
from octo_bench.rendering.meshes import _simplified, cache_folder


@pytest.fixture
def ball() -> tuple[np.ndarray, np.ndarray]:
    """A ball of 1,800 triangles, as MuJoCo has meshes."""
    turns, heights = np.meshgrid(np.linspace(0, 2 * np.pi, 31), np.linspace(-1, 1, 31))
    across = np.sqrt(np.maximum(0, 1 - heights**2))
    points = np.stack([across * np.cos(turns), across * np.sin(turns), heights], -1).reshape(-1, 3)
    corner = (np.arange(30)[:, None] * 31 + np.arange(30)).ravel()
    first = np.stack([corner, corner + 1, corner + 31], 1)
    second = np.stack([corner + 1, corner + 32, corner + 31], 1)
    return points.astype(np.float32), np.concatenate([first, second]).astype(np.int32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def other_points(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[200] ^= 64
    file.write_bytes(content)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil", [cut_off, other_points, a_folder, lambda file: file.write_bytes(b"")]
)
def test_a_damaged_file_is_made_again(
    cache: Path, ball: tuple[np.ndarray, np.ndarray], spoil: Callable[[Path], None]
) -> None:
    made = _simplified(*ball, 400)
    assert len(made[1]) <= 400
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    spoil(file)
    meshes._warn_once.cache_clear()
    with warnings.catch_warnings(record=True):
        again = _simplified(*ball, 400)
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(one, other)
    if file.is_file():
        assert file.read_bytes() == whole
    for one, other in zip(made, _simplified(*ball, 400), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_cache_there_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, ball: tuple[np.ndarray, np.ndarray]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    meshes._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="not kept between processes") as caught:
        first, second = _simplified(*ball, 400), _simplified(*ball, 400)
    assert len(caught) == 1
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_code_is_part_of_the_key(
    cache: Path, ball: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    _simplified(*ball, 400)
    monkeypatch.setattr(meshes, "_code", lambda: b"of another version")
    _simplified(*ball, 400)
    assert len(list(cache.iterdir())) == 2
