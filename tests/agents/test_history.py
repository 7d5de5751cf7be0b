"""The history of observations: order, padding at the start, independence of later changes."""

from __future__ import annotations

import numpy as np
import pytest

from octo_bench.agents.history import History


def seen(step: int) -> dict[str, np.ndarray]:
    return {
        "image_primary": np.full((2, 2, 3), step, np.uint8),
        "proprio": np.full(10, step, np.float32),
    }


def test_the_first_observation_stands_for_what_was_before_it() -> None:
    history = History(3, seen(7))
    stacked = history.stacked()
    assert stacked["image_primary"].shape == (3, 2, 2, 3)
    assert stacked["image_primary"].dtype == np.uint8
    assert stacked["proprio"].dtype == np.float32
    assert (stacked["image_primary"] == 7).all()
    assert stacked["timestep_pad_mask"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("steps", "steps_seen", "mask"),
    [
        (1, [0, 0, 1], [False, True, True]),
        (2, [0, 1, 2], [True, True, True]),
        (5, [3, 4, 5], [True, True, True]),
    ],
)
def test_the_last_observations_are_kept_oldest_first(
    steps: int, steps_seen: list[int], mask: list[bool]
) -> None:
    history = History(3, seen(0))
    for step in range(1, steps + 1):
        history.add(seen(step))
    stacked = history.stacked()
    assert stacked["proprio"][:, 0].tolist() == steps_seen
    assert stacked["timestep_pad_mask"].tolist() == mask


def test_a_window_of_one_is_the_present() -> None:
    history = History(1, seen(0))
    history.add(seen(4))
    stacked = history.stacked()
    assert stacked["proprio"][:, 0].tolist() == [4]
    assert stacked["timestep_pad_mask"].tolist() == [True]


def test_what_was_stacked_is_a_copy() -> None:
    first = seen(0)
    stacked = History(2, first).stacked()
    first["proprio"][:] = 9
    assert (stacked["proprio"] == 0).all()
