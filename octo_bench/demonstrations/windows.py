"""Demonstrations as training batches: windows of observations and chunks of actions.

Frames stay where they are, uint8, an array per episode; everything else is a table with one row
per frame, so that drawing a batch is a handful of gathers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from octo_bench.demonstrations.dataset import Demonstrations
from octo_bench.demonstrations.normalisation import Kind, Statistics, compute_statistics


@dataclass(frozen=True)
class Draw:
    """A batch without its images, which are fetched by frame number.

    B rows, W time steps of history, T of actions, P and A entries.
    """

    frames: Tensor
    """(B, W) int64, oldest first; padded history repeats the episode's first frame."""
    timestep_mask: Tensor
    """(B, W) bool, False for padded history."""
    proprio: Tensor
    """(B, W, P) float32, normalised."""
    actions: Tensor
    """(B, W, T, A) float32, normalised: the chunk that starts at each time step."""
    action_mask: Tensor
    """(B, W, T, A) bool, False past the episode's end and in padded history."""
    goal_frames: Tensor
    """(B,) int64, the last frame of each row's episode."""
    instructions: Tensor
    """(B,) int64, into `Windows.texts`."""


class Windows:
    """All frames of several demonstration files, and tables to draw windows from them."""

    def __init__(
        self,
        datasets: Sequence[Demonstrations],
        statistics: Statistics,
        *,
        window: int,
        chunk: int,
        proprio: Sequence[int],
        weights: Sequence[float] | None = None,
    ) -> None:
        """Gather the frames of `datasets`, drawn from in proportion to `weights` (all alike)."""
        self.window, self.chunk = window, chunk
        first, last, states, actions = [], [], [], []
        texts: dict[str, int] = {}
        phrasings: list[list[int]] = []
        starts = [0]
        entries = list(proprio)
        for data in datasets:
            scaling = statistics.actions_of(data.embodiment)
            position = starts[-1]
            for episode in data.episodes:
                length = len(episode.actions)
                first.append(np.full(length, position))
                last.append(np.full(length, position + length - 1))
                states.append(statistics.proprio.normalise(episode.proprio)[:, entries])
                actions.append(scaling.normalise(episode.actions))
                position += length
            starts.append(position)
            phrasings.append(
                [texts.setdefault(t, len(texts)) for t in (data.instruction, *data.paraphrases)]
            )
        self._episodes = [episode for data in datasets for episode in data.episodes]
        lengths = [len(episode.actions) for episode in self._episodes]
        self._episode_starts = np.cumsum([0, *lengths])
        self.texts = tuple(texts)
        self._starts = torch.tensor(starts)
        self._first = torch.from_numpy(np.concatenate(first))
        self._last = torch.from_numpy(np.concatenate(last))
        self._proprio = torch.from_numpy(np.concatenate(states))
        self._actions = torch.from_numpy(np.concatenate(actions))
        self._phrasing_counts = torch.tensor([len(ids) for ids in phrasings])
        self._phrasings = torch.zeros(len(phrasings), int(self._phrasing_counts.max())).long()
        for row, ids in enumerate(phrasings):
            self._phrasings[row, : len(ids)] = torch.tensor(ids)
        self._weights = balanced_weights(
            [(d.task, d.embodiment) for d in datasets], starts, weights or [1.0] * len(datasets)
        )
        self._history = torch.arange(1 - window, 1)
        self._ahead = torch.arange(chunk)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The images that all episodes have."""
        of_each = [episode.cameras for episode in self._episodes]
        return tuple(name for name in of_each[0] if all(name in names for names in of_each))

    @property
    def frame_count(self) -> int:
        """Number of frames over all data sets."""
        return int(self._starts[-1])

    def draw(self, batch_size: int, generator: torch.Generator) -> Draw:
        """Rows drawn with replacement: a data set by weight, then a frame and a phrasing."""
        source = torch.multinomial(self._weights, batch_size, True, generator=generator)
        uniform = torch.rand(2, batch_size, dtype=torch.float64, generator=generator)
        begin, end = self._starts[source], self._starts[source + 1]
        frame = begin + (uniform[0] * (end - begin)).long()
        phrasing = (uniform[1] * self._phrasing_counts[source]).long()
        return self.at(frame, self._phrasings[source, phrasing])

    def at(self, frame: Tensor, instructions: Tensor) -> Draw:
        """The windows that end at the given frames (B,), with the given instructions (B,)."""
        first, last = self._first[frame], self._last[frame]
        wanted = frame.unsqueeze(1) + self._history
        frames = wanted.maximum(first.unsqueeze(1))
        ahead = frames.unsqueeze(2) + self._ahead
        seen = wanted >= first.unsqueeze(1)
        within = (ahead <= last[:, None, None]) & seen.unsqueeze(2)
        actions = self._actions[ahead.minimum(last[:, None, None])]
        return Draw(
            frames=frames,
            timestep_mask=seen,
            proprio=self._proprio[frames],
            actions=actions,
            action_mask=within.unsqueeze(-1).expand(actions.shape),
            goal_frames=last,
            instructions=instructions,
        )

    def primary(self, frames: Tensor) -> Tensor:
        """Images (N, H, W, 3) uint8 of the primary camera at `frames` (N,)."""
        return self.images("image_primary", frames)

    def wrist(self, frames: Tensor) -> Tensor:
        """Images (N, H, W, 3) uint8 of the wrist camera at `frames` (N,)."""
        return self.images("image_wrist", frames)

    def images(self, camera: str, frames: Tensor) -> Tensor:
        """Images (N, H, W, 3) uint8 of a camera, one of `cameras`, at `frames` (N,)."""
        numbers = frames.numpy()
        owners = np.searchsorted(self._episode_starts, numbers, side="right") - 1
        within = numbers - self._episode_starts[owners]
        shape = getattr(self._episodes[0], camera).shape[1:]
        out = np.empty((len(numbers), *shape), np.uint8)
        for row, (owner, frame) in enumerate(zip(owners.tolist(), within.tolist(), strict=True)):
            out[row] = getattr(self._episodes[owner], camera)[frame]
        return torch.from_numpy(out)


def balanced_weights(
    groups: Sequence[tuple[str, str]], starts: Sequence[int], weights: Sequence[float]
) -> Tensor:
    """Probability of each data set: every (task, embodiment) counts the same, times `weights`.

    Files of the same group share its weight by their number of frames.
    """
    sizes = np.diff(np.asarray(starts)).astype(np.float64)
    totals = {
        g: sum(s for s, other in zip(sizes, groups, strict=True) if other == g) for g in groups
    }
    shares = np.array([w * s / totals[g] for w, s, g in zip(weights, sizes, groups, strict=True)])
    return torch.from_numpy(shares / shares.sum())


def statistics_of(datasets: Sequence[Demonstrations], kind: Kind) -> Statistics:
    """Statistics of all frames of the data sets."""
    actions: dict[str, list[np.ndarray]] = {}
    for data in datasets:
        actions.setdefault(data.embodiment, []).extend(e.actions for e in data.episodes)
    proprio = [episode.proprio for data in datasets for episode in data.episodes]
    grippers = {data.grippers for data in datasets}
    if len(grippers) > 1:
        raise ValueError(f"data sets have their grippers at other entries: {sorted(grippers)}")
    return compute_statistics(actions, proprio, kind, grippers.pop())
