"""The task: an instruction, a goal image, both or neither, as two tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TaskTokens(nn.Module):
    """Two tokens per row, instruction then goal; what is missing is a learned null embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.null_language = nn.Parameter(torch.randn(1, width) * 0.02)
        self.null_goal = nn.Parameter(torch.randn(1, width) * 0.02)

    def forward(
        self,
        language: Tensor | None,
        language_index: Tensor,
        goal: Tensor | None,
        goal_index: Tensor,
    ) -> Tensor:
        """Gather each row's task tokens from embeddings that were computed once.

        Args:
            language: (U, width) embeddings of the distinct instructions, or None.
            language_index: (B,) int64, which of them a row has; -1 for none.
            goal: (G, width) embeddings of the goal images that are used, or None.
            goal_index: (B,) int64, likewise.

        Returns:
            (B, 2, width).
        """
        tokens = []
        for null, given, index in (
            (self.null_language, language, language_index),
            (self.null_goal, goal, goal_index),
        ):
            table = null if given is None else torch.cat([null, given.to(null.dtype)])
            tokens.append(table[index + 1])
        return torch.stack(tokens, 1)
