"""Fitting a checkpoint to another arm: a new action head or size, new proprioception."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import get_args

import torch

from octo_bench.checkpoints.folder import ModelConfig, Policy, build_model, stored_tensors
from octo_bench.models import octo
from octo_bench.models.octo import OctoConfig
from octo_bench.models.octo_1_5 import config as octo_1_5
from octo_bench.training.objective import Network

HEADS: Mapping[str, tuple[str, ...]] = {
    "octo": get_args(octo.Head),
    "octo-1.5": get_args(octo_1_5.Head),
}
"""The action heads of each architecture."""


def adapted_config(
    config: ModelConfig, *, action_size: int, head: str | None = None, proprio: int | None = None
) -> ModelConfig:
    """The configuration for another arm.

    Args:
        action_size: entries of the arm's actions.
        head: another action head, one of `HEADS`.
        proprio: entries of proprioception to read, all of them, if the network reads none so far.
    """
    config = replace(config, action_size=action_size)
    if head is not None:
        config = replace(config, head=head)
    if proprio is not None and not config.proprio_entries:
        entries = tuple(range(proprio))
        if isinstance(config, OctoConfig):
            return replace(config, proprio=entries)
        return replace(config, proprio=replace(config.proprio, entries=entries))
    return config


def adapt(start: Policy, config: ModelConfig, seed: int) -> tuple[Network, list[str]]:
    """A network of `config` with the checkpoint's weights where name and shape fit.

    Returns:
        The network, and the names of the tensors that are not from the checkpoint: they are
        initialised at random, as `seed` has it.
    """
    if config == start.config.model:
        return start.model, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config)
    known = stored_tensors(start.model)
    new = []
    with torch.no_grad():
        for name, tensor in stored_tensors(model).items():
            if name in known and known[name].shape == tensor.shape:
                tensor.copy_(known[name])
            else:
                new.append(name)
    return model.eval(), new


def modules_of(names: Collection[str], everything: Iterable[str]) -> list[str]:
    """The modules that some of a network's tensors make up: what is listed for people.

    Args:
        names: of the tensors in question.
        everything: names of all the network's tensors.

    Returns:
        Of each tensor the outermost module with nothing else in it, each once.
    """
    others = [name for name in everything if name not in names]

    def outermost(name: str) -> str:
        parts = name.split(".")
        modules = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        alone = (m for m in modules if not any(other.startswith(f"{m}.") for other in others))
        return next(alone, name)

    return list(dict.fromkeys(map(outermost, names)))
