"""T5 instruction encoder: a pre-trained one, or a small one on bytes that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, T5Config, T5EncoderModel

BYTE_OFFSET = 3
"""ByT5 (Xue et al. 2022): 0 pads, 1 ends the text, 2 is unknown, byte b is token b + 3."""
PAD, END = 0, 1


@dataclass(frozen=True)
class LanguageConfig:
    """Which T5 encoder.

    With `pretrained` (a Hugging Face id or a local folder) its sizes, weights and tokenizer are
    used and the sizes here are not; it is trained only if `trainable`. Without, a small encoder
    of the sizes given here reads bytes.
    """

    pretrained: str = "google-t5/t5-base"
    trainable: bool = False
    max_length: int = 64
    layers: int = 2
    width: int = 64
    heads: int = 4
    feed_forward: int = 256


def byte_tokens(texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """Texts as ByT5 tokens: ids (N, S) int64 and mask (N, S) bool, S the longest text's length."""
    rows = [[b + BYTE_OFFSET for b in t.encode()[: max_length - 1]] + [END] for t in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return ids, ids != PAD


class LanguageEncoder(nn.Module):
    """Instructions to one embedding each: the masked mean of T5's states, linear to `width`."""

    def __init__(self, config: LanguageConfig, width: int, *, load_pretrained: bool) -> None:
        super().__init__()
        self.config = config
        if not config.pretrained:
            sizes = T5Config(
                vocab_size=256 + BYTE_OFFSET,
                d_model=config.width,
                d_kv=config.width // config.heads,
                d_ff=config.feed_forward,
                num_layers=config.layers,
                num_heads=config.heads,
                dropout_rate=0.0,
                pad_token_id=PAD,
                eos_token_id=END,
            )
            self._tokenizer = None
            self.t5 = T5EncoderModel(sizes)
        else:
            sizes = AutoConfig.from_pretrained(config.pretrained)
            self._tokenizer = AutoTokenizer.from_pretrained(config.pretrained)
            self.t5 = (
                T5EncoderModel.from_pretrained(config.pretrained)
                if load_pretrained
                else T5EncoderModel(sizes)
            )
            self.t5.requires_grad_(config.trainable)
        self.projection = nn.Linear(sizes.d_model, width)

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (N, S) int64 and mask (N, S) bool of `texts`."""
        if self._tokenizer is None:
            return byte_tokens(texts, self.config.max_length)
        encoded = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.config.max_length,
            return_tensors="pt",
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (N, S) and their mask (N, S) to embeddings (N, width)."""
        states = self.t5(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return self.projection((states * weights).sum(1) / weights.sum(1))
