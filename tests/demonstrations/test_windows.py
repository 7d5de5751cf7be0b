"""Windows, chunks, padding, balanced sampling and normalisation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.synthetic import toy_demonstrations
from octo_bench.demonstrations.normalisation import (
    action_scaling,
    read_statistics,
    write_statistics,
)
from octo_bench.demonstrations.windows import Windows, balanced_weights, statistics_of
from octo_bench.errors import BadCheckpoint

PROPRIO = (0, 1, 9)


def windows(*datasets, window: int = 2, chunk: int = 4) -> Windows:
    datasets = datasets or (toy_demonstrations(),)
    statistics = statistics_of(datasets, "bounds")
    return Windows(datasets, statistics, window=window, chunk=chunk, proprio=PROPRIO)


def test_history_is_padded_at_the_start() -> None:
    draw = windows(window=3).at(torch.tensor([10, 11, 15]), torch.zeros(3, dtype=torch.long))
    assert draw.frames.tolist() == [[10, 10, 10], [10, 10, 11], [13, 14, 15]]
    assert draw.timestep_mask.tolist() == [
        [False, False, True],
        [False, True, True],
        [True, True, True],
    ]
    assert not draw.action_mask[0, :2].any()


def test_chunk_is_padded_at_the_end() -> None:
    demonstrations = toy_demonstrations()
    made = windows(demonstrations, window=1)
    draw = made.at(torch.tensor([15, 18]), torch.zeros(2, dtype=torch.long))
    assert draw.action_mask[:, 0, :, 0].tolist() == [[True] * 4, [True, True, False, False]]
    scaling = statistics_of([demonstrations], "bounds").actions_of("Toy")
    raw = demonstrations.episodes[1].actions
    np.testing.assert_allclose(scaling.restore(draw.actions[0, 0].numpy()), raw[5:9], atol=1e-6)
    np.testing.assert_allclose(scaling.restore(draw.actions[1, 0, :2].numpy()), raw[8:], atol=1e-6)


def test_images_goals_and_proprioception_belong_to_the_frame() -> None:
    first, second = toy_demonstrations(seed=1), toy_demonstrations(seed=2, embodiment="Other")
    made = windows(first, second, window=1)
    frames = torch.tensor([45, 3, 79])
    draw = made.at(frames, torch.zeros(3, dtype=torch.long))
    assert draw.goal_frames.tolist() == [49, 9, 79]
    expected = [second.episodes[0], first.episodes[0], second.episodes[3]]
    for row, (episode, step) in enumerate(zip(expected, (5, 3, 9), strict=True)):
        np.testing.assert_array_equal(made.primary(frames)[row], episode.image_primary[step])
        np.testing.assert_array_equal(made.wrist(frames)[row], episode.image_wrist[step])
        goal = made.primary(draw.goal_frames)[row]
        np.testing.assert_array_equal(goal, episode.image_primary[-1])
    statistics = statistics_of([first, second], "bounds").proprio
    raw = first.episodes[0].proprio[3]
    np.testing.assert_allclose(draw.proprio[1, 0], statistics.normalise(raw)[list(PROPRIO)])


def test_every_task_and_embodiment_counts_the_same() -> None:
    groups = [("Lift", "A"), ("Lift", "A"), ("Stack", "A")]
    weights = balanced_weights(groups, [0, 10, 40, 440], [1.0] * 3)
    torch.testing.assert_close(weights, torch.tensor([0.125, 0.375, 0.5], dtype=torch.float64))


def test_drawing_covers_data_and_phrasings_and_repeats_from_its_state() -> None:
    made = windows(
        toy_demonstrations(1),
        toy_demonstrations(30, embodiment="B", instruction="other", paraphrases=()),
    )
    generator = torch.Generator().manual_seed(0)
    draw = made.draw(2000, generator)
    small = draw.frames[:, -1] < 10
    assert small.float().mean() == pytest.approx(0.5, abs=0.05)
    assert {made.texts[i] for i in draw.instructions[small].unique()} == {
        "go to the square",
        "follow the square",
        "to the square",
    }
    assert {made.texts[i] for i in draw.instructions[~small].unique()} == {"other"}
    state = generator.get_state()
    again = made.draw(8, generator).frames
    generator.set_state(state)
    assert torch.equal(made.draw(8, generator).frames, again)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["bounds", "mean_std"]))
def test_scaling_is_undone_and_leaves_the_gripper(seed: int, kind: str) -> None:
    actions = np.random.default_rng(seed).uniform(-1, 1, (50, 14)).astype(np.float32)
    scaling = action_scaling(actions, kind, (6, 13))
    normalised = scaling.normalise(actions)
    np.testing.assert_allclose(scaling.restore(normalised), actions, atol=1e-5)
    np.testing.assert_array_equal(normalised[:, [6, 13]], actions[:, [6, 13]])
    if kind == "bounds":
        assert np.abs(normalised).max() <= 1 + 1e-5


def test_grippers_are_the_entries_that_are_declared_wherever_they_are() -> None:
    joints_and_gripper = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 8)).astype(np.float32)
    scaling = action_scaling(joints_and_gripper, "bounds", (7,))
    assert (scaling.offset[7], scaling.scale[7]) == (0, 1)
    assert (scaling.scale[:7] < 0.51).all()


def test_an_entry_that_never_moves_is_not_blown_up() -> None:
    actions = np.full((10, 7), 0.01, np.float32)
    assert (action_scaling(actions, "bounds", (6,)).scale[:6] == np.float32(0.05)).all()


def test_statistics_file_round_trips_and_falls_back_to_the_pool(tmp_path: Path) -> None:
    statistics = statistics_of(
        [toy_demonstrations(seed=1), toy_demonstrations(seed=2, embodiment="B")], "bounds"
    )
    write_statistics(tmp_path / "statistics.json", statistics)
    read = read_statistics(tmp_path / "statistics.json", 7)
    assert set(read.actions) == {"default", "Toy", "B"}
    np.testing.assert_array_equal(read.actions_of("B").scale, statistics.actions_of("B").scale)
    assert read.actions_of("Unseen") is read.actions["default"]
    assert read.actions_of(None) is read.actions["default"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("actions"), "no table 'actions'"),
        (lambda t: t["actions"].pop("default"), "no entry 'default'"),
        (lambda t: t["actions"]["Toy"]["scale"].pop(), "'actions.Toy' must hold 7"),
        (lambda t: t["actions"]["Toy"].pop("offset"), "'actions.Toy' has no numeric offset"),
        (lambda t: t.pop("proprio"), "'proprio' has no numeric offset"),
    ],
)
def test_bad_statistics_are_named(tmp_path: Path, spoil, message: str) -> None:
    path = tmp_path / "statistics.json"
    write_statistics(path, statistics_of([toy_demonstrations()], "bounds"))
    table = json.loads(path.read_text())
    spoil(table)
    path.write_text(json.dumps(table))
    with pytest.raises(BadCheckpoint, match=message) as error:
        read_statistics(path, 7)
    assert str(path) in str(error.value)
