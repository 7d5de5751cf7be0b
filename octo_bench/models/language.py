"""T5 instruction encoder: a pre-trained one, or a small one on bytes that needs no download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from octo_bench.models.config import LanguageConfig
from octo_bench.models.pretrained import copy_weights

Tokenise = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
BYTE_OFFSET = 3
"""ByT5 (Xue et al. 2022): 0 pads, 1 ends the text, 2 is unknown, byte b is token b + 3."""
PAD, END = 0, 1


def byte_tokens(texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """Texts as ByT5 tokens: ids (N, S) int64 and mask (N, S) bool, S the longest text's length."""
    rows = [[b + BYTE_OFFSET for b in t.encode()[: max_length - 1]] + [END] for t in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return ids, ids != PAD


class LanguageEncoder(nn.Module):
    """Instructions to one embedding each: the masked mean of T5's states, linear to `width`."""

    def __init__(self, config: LanguageConfig, width: int, *, load_pretrained: bool) -> None:
        """Randomly initialised, or with the weights that the configuration names.

        Raises:
            UnavailableError: when these are not available or do not fit.
        """
        super().__init__()
        self.config = config
        self.tokenise: Tokenise | None = None
        """Texts to token ids (N, S) int64 and mask (N, S). A pre-trained T5's is to be given."""
        if not config.pretrained:
            self.tokenise = partial(byte_tokens, max_length=config.max_length)
        self._pooled: dict[str, Tensor] = {}
        self.t5 = T5EncoderModel(
            T5Config(
                vocab_size=config.vocabulary if config.pretrained else 256 + BYTE_OFFSET,
                d_model=config.width,
                d_kv=config.width // config.heads,
                d_ff=config.feed_forward,
                num_layers=config.layers,
                num_heads=config.heads,
                dropout_rate=0.0,
                pad_token_id=PAD,
                eos_token_id=END,
            )
        )
        if config.pretrained:
            self.t5.requires_grad_(config.trainable)
            if load_pretrained:
                copy_weights(config.pretrained, dict(self.t5.named_parameters()))
        self.projection = nn.Linear(config.width, width)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts to embeddings (N, width). A T5 that stays as it is reads each text only once."""
        if not self.config.pretrained or self.config.trainable:
            return self(*self._tokens(texts))
        for text in texts:
            if text not in self._pooled:
                with torch.no_grad():
                    self._pooled[text] = self.pooled(*self._tokens([text]))[0]
        return self.projection(torch.stack([self._pooled[text] for text in texts]))

    def _tokens(self, texts: Sequence[str]) -> list[Tensor]:
        return [part.to(self.projection.weight.device) for part in self.tokenise(texts)]

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (N, S) and their mask (N, S) to the mean of T5's states (N, T5's width)."""
        states = self.t5(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (N, S) and their mask (N, S) to embeddings (N, width)."""
        return self.projection(self.pooled(ids, mask))
