"""Fitting a checkpoint to another arm: a new action head or size, new proprioception."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import get_args

import torch

from octo_bench.checkpoints.config import ModelConfig
from octo_bench.checkpoints.folder import Policy, build_model, stored_tensors
from octo_bench.demonstrations.layout import SECOND_WRIST
from octo_bench.models import config as octo
from octo_bench.models.config import OctoConfig
from octo_bench.models.octo_1_5 import config as octo_1_5
from octo_bench.training.objective import Network

HEADS: Mapping[str, tuple[str, ...]] = {
    "octo": get_args(octo.Head),
    "octo-1.5": get_args(octo_1_5.Head),
}
"""The action heads of each architecture."""
POSITIONS = "transformer.positions"


def adapted_config(
    config: ModelConfig,
    *,
    action_size: int,
    cameras: Collection[str],
    proprio_sizes: tuple[int, int],
    head: str | None = None,
    read_proprio: bool = False,
) -> ModelConfig:
    """The configuration for another arm, or for two of them.

    Args:
        action_size: entries of the arm's actions.
        cameras: the images of its observations.
        proprio_sizes: entries of proprioception that the policy was trained with, and those of
            the arm. With as many arms more, the same entries of each of them are read.
        head: another action head, one of `HEADS`.
        read_proprio: read proprioception, all of it, if the network reads none so far.
    """
    config = replace(config, action_size=action_size)
    if head is not None:
        config = replace(config, head=head)
    entries = config.proprio_entries
    if read_proprio and not entries:
        entries = tuple(range(proprio_sizes[1]))
    else:
        entries = _entries_of_all_arms(entries, *proprio_sizes)
    two_wrists = SECOND_WRIST in cameras
    if isinstance(config, OctoConfig):
        return _octo_for(config, entries, 2 if two_wrists else 1)
    images = {image.image: image for image in config.images}
    wrist = images.get("image_wrist")
    if two_wrists and wrist is not None and SECOND_WRIST not in images:
        second = replace(wrist, name=f"{wrist.name}_2", image=SECOND_WRIST)
        config = replace(config, images=(*config.images, second))
    return replace(config, proprio=replace(config.proprio, entries=entries))


def _entries_of_all_arms(entries: tuple[int, ...], known: int, size: int) -> tuple[int, ...]:
    """The entries to read of `size` where, of `known`, `entries` are read."""
    if known and size % known == 0:
        return tuple(known * arm + entry for arm in range(size // known) for entry in entries)
    return tuple(entry for entry in entries if entry < size)


def _octo_for(config: OctoConfig, entries: tuple[int, ...], wrist_cameras: int) -> OctoConfig:
    more = config.window * (wrist_cameras - config.wrist_cameras)
    context = max(config.transformer.context, config.tokens + more)
    return replace(
        config,
        proprio=entries,
        wrist_cameras=wrist_cameras,
        transformer=replace(config.transformer, context=context),
    )


def adapt(start: Policy, config: ModelConfig, seed: int) -> tuple[Network, list[str]]:
    """A network of `config` with the checkpoint's weights where name and shape fit.

    A second wrist's tokenizer starts as the first one's; positions of a longer sequence as the
    shorter one's as far as that goes.

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
            first = name.replace("images.wrist_2.", "images.wrist.", 1)
            old = known.get(name, known.get(first))
            if old is not None and old.shape == tensor.shape:
                tensor.copy_(old)
            elif name == POSITIONS and old is not None and old.shape[1:] == tensor.shape[1:]:
                tensor[: len(old)] = old
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
