"""Watching an episode shows the one that is evaluated."""

from __future__ import annotations

from pathlib import Path

import imageio.v3
import pytest

from octo_bench.errors import BadFile
from octo_bench.films.watching import STRIP_PICTURES, watch
from octo_bench.rollouts.evaluate import evaluate

LIFT = "octo_bench/Lift-Panda-v1"


def test_the_episode_is_the_one_that_is_evaluated(tmp_path: Path) -> None:
    strip, film = tmp_path / "lift.png", tmp_path / "lift.gif"
    record = watch("expert", LIFT, 1, strip)
    (evaluated,) = evaluate("expert", LIFT, 1, first_episode=1, progress=False)
    assert record.initial_state_sha256 == evaluated.initial_state_sha256
    assert (record.steps, record.success_once) == (evaluated.steps, True)
    pictures = imageio.v3.imread(strip)
    assert pictures.shape == (256, 256 * STRIP_PICTURES, 3)
    assert pictures.std() > 10
    assert watch("expert", LIFT, 1, film).steps == record.steps
    assert len(imageio.v3.imread(film)) == record.steps // 2 + 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lift.gif", "lift.png"]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"lift\.avi.*\.mp4"):
        watch("expert", LIFT, 0, tmp_path / "lift.avi")
