"""Weights and tokenizers that others trained: from a file, a folder, or the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

WEIGHTS = "model.safetensors"


class UnavailableError(Exception):
    """Pre-trained weights that are not available or do not fit: the problem, and the fix."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def fetch(source: str, name: str) -> Path:
    """Where the file `name` of `source` lies, which is downloaded if need be.

    Args:
        source: that file itself, a folder with it, or a Hugging Face Hub id.

    Raises:
        UnavailableError: when it is none of them, or the Hub cannot be reached.
    """
    local = Path(source)
    if local.is_file():
        return local
    if local.is_dir():
        if not (local / name).is_file():
            raise UnavailableError(f"the folder '{source}' has no {name}", "put it there")
        return local / name
    try:
        # Without a network this gives up at once, where `hf_hub_download` tries for half a minute.
        file = Path(snapshot_download(source, allow_patterns=[name]), name)
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        raise _unreachable(source, name) from error
    if not file.is_file():
        raise _unreachable(source, name)
    return file


def _unreachable(source: str, name: str) -> UnavailableError:
    return UnavailableError(
        f"the {name} of '{source}' is neither on this machine nor available from the Hub",
        f"`hf download {source} {name}` fetches it, or let 'pretrained' name a folder with it",
    )


@torch.no_grad()
def copy_weights(source: str, wanted: Mapping[str, Tensor]) -> None:
    """Fill tensors with those of the file `model.safetensors` of `source`, in place.

    Args:
        source: as for `fetch`.
        wanted: by the name in the file; what else the file has is left alone.

    Raises:
        UnavailableError: when there is no such file, or naming the tensor that does not fit.
    """
    try:
        with safe_open(fetch(source, WEIGHTS), framework="pt") as weights:
            present = set(weights.keys())
            for name, tensor in wanted.items():
                if name not in present:
                    problem = f"the weights of '{source}' have no tensor '{name}'"
                    raise UnavailableError(problem, "name weights of the configured network")
                shape = tuple(weights.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    raise UnavailableError(
                        f"the weights of '{source}' have a tensor '{name}' of shape {shape}, "
                        f"not {tuple(tensor.shape)}",
                        "configure the sizes of these weights",
                    )
                tensor.copy_(weights.get_tensor(name))
    except SafetensorError as error:
        problem = f"the weights of '{source}' are no safetensors file ({error})"
        raise UnavailableError(problem, "convert them to safetensors") from error
