"""Observation history: the last few observations of one episode."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

PAD_MASK = "timestep_pad_mask"


class History:
    """The last `window` observations, one of every control step.

    Where the episode does not reach back that far, its first observation is repeated and
    `timestep_pad_mask` is False, as in training.
    """

    def __init__(self, window: int, first: Mapping[str, np.ndarray]) -> None:
        """An episode starts with the observation `first`."""
        self._seen = deque([first] * window, maxlen=window)
        self._known = 1

    def add(self, observation: Mapping[str, np.ndarray]) -> None:
        """A step was taken, after which this was seen."""
        self._seen.append(observation)
        self._known = min(self._known + 1, len(self._seen))

    def stacked(self) -> dict[str, np.ndarray]:
        """Each entry (W, ...), oldest first, and `timestep_pad_mask` (W,) bool."""
        window = len(self._seen)
        entries = {key: np.stack([each[key] for each in self._seen]) for key in self._seen[0]}
        return {**entries, PAD_MASK: np.arange(window) >= window - self._known}
