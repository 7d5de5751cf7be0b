"""Which rows of a batch get an instruction, a goal image, both or neither."""

from __future__ import annotations

import torch
from torch import Tensor

from octo_bench.training.settings import TaskModes


def draw_task_rows(
    modes: TaskModes, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw the rows with an instruction, and those with a goal image; (B,) bool each."""
    shares = torch.tensor(modes.shares, dtype=torch.float64)
    mode = torch.multinomial(shares, batch, True, generator=generator)
    return (mode == 0) | (mode == 2), (mode == 1) | (mode == 2)


def distinct_of(values: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct `values` (B,) among the rows that are `used`, and each row's position there.

    Rows that are not used get position -1.
    """
    distinct, positions = torch.unique(values[used], return_inverse=True)
    index = torch.full_like(values, -1)
    index[used] = positions
    return distinct, index
