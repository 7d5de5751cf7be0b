"""The tokenizer of a policy's instructions: T5's SentencePiece model as `tokenizer.json`.

It is looked for only when there is text, so that a policy can be told nothing, or a goal image,
without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from tokenizers import Tokenizer
from torch import Tensor

from octo_bench.checkpoints.config import TOKENIZER
from octo_bench.errors import BadCheckpoint
from octo_bench.reading import is_file, read_bytes

FILE = "tokenizer.json"
PAD = "<pad>"


def find_tokenizer(folder: Path, name: str) -> Path:
    """The file of a policy's tokenizer.

    Args:
        folder: the policy's, whose own `tokenizer/tokenizer.json` goes first.
        name: what the policy's configuration names, a folder or a Hugging Face Hub id.

    Raises:
        BadCheckpoint: when it is neither there nor to be had.
    """
    own = folder / TOKENIZER / FILE
    for file in (own, Path(name) / FILE):
        if is_file(file):
            return file
    fix = f"put the {FILE} of '{name}' there"
    try:
        # Unlike hf_hub_download, this does not try again and again without a connection.
        file = Path(snapshot_download(name, allow_patterns=[FILE])) / FILE
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        problem = f"no such file, and '{name}' cannot be fetched from the Hub"
        raise BadCheckpoint(own, problem, fix) from error
    if not file.is_file():
        raise BadCheckpoint(own, f"no such file, and '{name}' has none on the Hub", fix)
    return file


class TextTokenizer:
    """Texts to token ids, all of one length."""

    def __init__(self, file: Path, length: int) -> None:
        """Read a `tokenizer.json`; texts are cut or padded to `length` tokens.

        Raises:
            BadCheckpoint: when the file is not a tokenizer.
        """
        content = read_bytes(file, BadCheckpoint, "fetch it again")
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more particular
            raise BadCheckpoint(file, f"is not a tokenizer ({error})", "fetch it again") from error
        pad = self._tokenizer.token_to_id(PAD)
        if pad is None:
            raise BadCheckpoint(file, f"has no token '{PAD}'", "use the tokenizer of a T5")
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=pad, pad_token=PAD)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts (U,) to ids (U, length) int64 and mask (U, length) int64, 0 for padding."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded])
        return ids, torch.tensor([each.attention_mask for each in encoded])
