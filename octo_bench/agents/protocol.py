"""The interface of a policy under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from octo_bench.simulation.environment import OctoBenchEnvironment


@dataclass(frozen=True)
class TaskInput:
    """The task as the policy gets it: words, a goal image (H, W, 3) uint8, both, or neither."""

    instruction: str | None = None
    goal: np.ndarray | None = None


class Agent(Protocol):
    """A policy, called with batches of a fixed size, one row per episode.

    A row's action chunk must not depend on the other rows, so that an episode's outcome does not
    depend on which episodes run beside it.

    Attributes:
        window: observations of history that `act` receives, W.
        execute: environment steps that are executed of each action chunk.
        noise_shape: shape of the standard normal noise of one query of one episode; () for none.
        wants_images: whether `act` looks at images; without, they are not drawn.
        wants_goal: whether `act` looks at goal images; without, none are made.
    """

    window: int
    execute: int
    noise_shape: tuple[int, ...]
    wants_images: bool
    wants_goal: bool

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """An episode starts in row `slot`; `seed` is the episode's own for what `act` draws."""

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """Action chunks (B, T, A) float32 in environment units, T at least `execute`.

        Args:
            observations: `image_primary`, `image_wrist` (B, W, H, W, 3) uint8, `proprio`
                (B, W, P) float32, `timestep_pad_mask` (B, W) bool, False where the history does
                not reach back that far. Rows without an episode are zeros.
            tasks: one a row.
            noise: (B, *noise_shape) float32.
        """
