"""Instructions as tokens: a frozen T5 encoder, then a projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import T5Config as T5Sizes
from transformers import T5EncoderModel

from octo_bench.models.octo_1_5.config import T5Config
from octo_bench.models.octo_1_5.initialisation import positions


class LanguageTokenizer(nn.Module):
    """T5's states of an instruction (Raffel et al. 2020), linear to the transformer's width.

    All states are used, those of padding too, as the original does.
    """

    def __init__(self, config: T5Config, width: int) -> None:
        super().__init__()
        self.t5 = T5EncoderModel(
            T5Sizes(
                vocab_size=config.vocabulary,
                d_model=config.width,
                d_kv=config.head_width,
                d_ff=config.feed_forward,
                num_layers=config.layers,
                num_heads=config.heads,
                relative_attention_num_buckets=config.buckets,
                relative_attention_max_distance=config.distance,
                dropout_rate=0.0,
                layer_norm_epsilon=1e-6,
            )
        ).requires_grad_(False)
        self.projection = nn.Linear(config.width, width)
        self.positions = positions(config.tokens, width)

    @torch.no_grad()
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (U, S) int64 and their mask (U, S) to T5's states (U, S, T5's width)."""
        return self.t5(input_ids=ids, attention_mask=mask).last_hidden_state

    def forward(self, states: Tensor) -> Tensor:
        """T5's states (B, S, T5's width) to tokens (B, S, width), positions included."""
        return self.projection(states.to(self.projection.weight.dtype)) + self.positions
