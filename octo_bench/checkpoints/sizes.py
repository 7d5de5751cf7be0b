"""Whether a configuration describes a network that can be made at all, before it is made."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

LARGEST_SIZE = 2**20
MOST_LAYERS = 256
MOST_ENTRIES = 1024
LARGEST_NUMBER = 1e6
_LAYERS = ("layers", "blocks")
_BYTES = 4


def require_network(config: Any, build: Callable[[], nn.Module]) -> None:
    """Check every size of a configuration, then that its network fits into memory.

    Args:
        config: a dataclass.
        build: makes its network; it is called to make one without content.

    Raises:
        ValueError: says what is wrong; a size by the key it has in the file.
    """
    import torch

    require_sizes(config)
    try:
        with torch.device("meta"):
            network = build()
    except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"describes no network ({error})") from error
    entries = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if entries * _BYTES > memory // 2:
        raise ValueError(
            f"describes a network of {entries:.2g} parameters, which does not fit into the "
            f"{memory / 1e9:.0f} GB of memory"
        )


def require_sizes(config: Any) -> None:
    """Check every number of a configuration; see `require_network`."""
    _require(dataclasses.asdict(config), "")


def _require(value: Any, key: str) -> None:
    if isinstance(value, Mapping):
        for name, each in value.items():
            _require(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        most = MOST_LAYERS if key.rpartition(".")[2] in _LAYERS else MOST_ENTRIES
        if len(value) > most:
            raise ValueError(f"'{key}' has {len(value)} entries, at most {most} are read")
        for number, each in enumerate(value):
            _require(each, f"{key}[{number}]")
    elif isinstance(value, bool):
        return
    elif isinstance(value, int):
        most = MOST_LAYERS if key.partition("[")[0].rpartition(".")[2] in _LAYERS else LARGEST_SIZE
        if not 0 <= value <= most:
            raise ValueError(f"'{key}' = {value:.6g} must lie between 0 and {most}")
    elif isinstance(value, float) and not (math.isfinite(value) and abs(value) <= LARGEST_NUMBER):
        raise ValueError(f"'{key}' = {value:g} is not a plausible number")
