"""Fine-tuning a policy on demonstrations of one environment: full, LoRA, or the head only."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import peft
import torch

from octo_bench.checkpoints.config import TOKENIZER, WEIGHTS, find_policy
from octo_bench.checkpoints.folder import (
    Policy,
    describe,
    read_policy,
    require_proprio,
    stored_tensors,
    write_policy,
)
from octo_bench.demonstrations.dataset import Demonstrations, fingerprint_of, image_sides
from octo_bench.demonstrations.normalisation import Statistics
from octo_bench.demonstrations.windows import Windows, statistics_of
from octo_bench.errors import BadCheckpoint
from octo_bench.files import sha256_file, sha256_json
from octo_bench.models.octo import Octo, OctoConfig
from octo_bench.models.octo_1_5.network import Octo15
from octo_bench.training.adaptation import HEADS, adapt, adapted_config, modules_of
from octo_bench.training.adapters import ADAPTER, Lora, add_adapters
from octo_bench.training.loop import finish, train
from octo_bench.training.objective import Network, objective
from octo_bench.training.pretrain import initial_model
from octo_bench.training.settings import Optimisation, TrainingSummary

RANGE_TOLERANCE = 1e-4
"""Normalised units by which an action may pass the head's range: float32's rounding."""

Mode = Literal["full", "lora", "head"]


@dataclass(frozen=True)
class FinetuneSettings:
    """How a policy is fine-tuned.

    `mode`: "full" trains everything but a released T5; "lora" trains adapters and the action
    head; "head" the action head. With the last two the seed architecture's vision encoder is
    frozen, so it runs once per frame and images are not augmented. `normalisation`: "policy"
    scales actions as in pre-training, so that the head's outputs keep their meaning; "recompute"
    takes the demonstrations' own, as is always done where the policy's mean something else: with
    another action size, or with actions in metres. `head`: replace the action head. `proprio`:
    read proprioception, if the policy does not yet. What is new is trained in every mode.
    """

    mode: Mode = "full"
    normalisation: Literal["policy", "recompute"] = "policy"
    head: str | None = None
    proprio: bool = False
    seed: int = 0
    lora: Lora = field(default_factory=Lora)
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            steps=1000, learning_rate=5e-4, warmup=50, ema_decay=0.995
        )
    )


@dataclass(frozen=True)
class FinetuneSummary(TrainingSummary):
    """A training and its statistics.

    `new`: the modules that the checkpoint had no weights for. `clipped`: the share of the
    demonstrations' action entries that the head cannot give, since the scaling puts them beyond
    its range.
    """

    new: tuple[str, ...]
    clipped: float


def finetune(
    policy: str | Path,
    demonstrations: Demonstrations,
    out: Path,
    settings: FinetuneSettings,
    *,
    from_scratch: bool = False,
    progress: bool = True,
) -> FinetuneSummary:
    """Fine-tune and write a policy folder.

    Args:
        policy: a name under `policies/`, a folder, or a Hub id.
        from_scratch: start from random weights of the same network instead (the comparison that
            tells what pre-training is worth); everything is then trained, whatever the mode,
            and all scaling is computed from the demonstrations.
    """
    start = read_policy(find_policy(policy))
    _check_head(start, settings)
    _check_images(start, demonstrations)
    statistics = _statistics(start, demonstrations, settings, from_scratch=from_scratch)
    first = demonstrations.episodes[0]
    config = adapted_config(
        start.config.model,
        action_size=first.actions.shape[1],
        cameras=first.cameras,
        proprio_sizes=(len(start.statistics.proprio.offset), first.proprio.shape[1]),
        head=settings.head,
        read_proprio=settings.proprio,
    )
    windows = Windows(
        [demonstrations],
        statistics,
        window=config.window,
        chunk=config.chunk,
        proprio=config.proprio_entries,
    )
    model, new = adapt(start, config, settings.seed)
    if from_scratch:
        model, new = _from_scratch(start, model, settings.seed), []
    clipped = _clipped(statistics, demonstrations, config.action_range)
    modules = tuple(modules_of(new, stored_tensors(model)))
    mode = "full" if from_scratch else settings.mode
    adapted = _choose_trained(model, mode, settings, new)
    summary = train(
        objective(model, windows, settings.optimisation, start.folder),
        settings.optimisation,
        out,
        seed=settings.seed,
        fingerprints={
            "settings": sha256_json([asdict(settings), from_scratch]),
            "starting weights": sha256_file(start.folder / WEIGHTS),
            "configuration": sha256_json([asdict(config), start.config.execute]),
            "statistics": sha256_json(statistics.table()),
            "demonstrations": fingerprint_of(demonstrations),
        },
        progress=progress,
    )
    if adapted is not None:
        adapted.save_pretrained(out / ADAPTER)
        model = adapted.merge_and_unload()
    card = _card(start, demonstrations, settings, mode, from_scratch, modules, clipped, summary)
    if (start.folder / TOKENIZER).is_dir():
        shutil.copytree(start.folder / TOKENIZER, out / TOKENIZER, dirs_exist_ok=True)
    write_policy(out, model, start.config.execute, statistics, f"# {out.name}\n\n{card}")
    finish(out)
    return FinetuneSummary(**asdict(summary), new=modules, clipped=clipped)


def _check_head(start: Policy, settings: FinetuneSettings) -> None:
    heads = HEADS[start.config.architecture]
    if settings.head is not None and settings.head not in heads:
        problem = f"its architecture has no head '{settings.head}'"
        raise BadCheckpoint(start.folder, problem, f"use one of {', '.join(heads)}")


def _check_images(start: Policy, demonstrations: Demonstrations) -> None:
    """Refuse images of another size, which the seed architecture does not resize."""
    if not isinstance(start.config.model, OctoConfig):
        return
    size = start.config.model.image_size
    sides = set().union(*map(image_sides, demonstrations.episodes))
    if sides != {size}:
        there = " x ".join(map(str, sorted(sides)))
        problem = f"sees images of {size} px, and the demonstrations have {there} px"
        raise BadCheckpoint(start.folder, problem, "use demonstrations of the policy's size")


def _statistics(
    start: Policy,
    demonstrations: Demonstrations,
    settings: FinetuneSettings,
    *,
    from_scratch: bool,
) -> Statistics:
    """The policy's statistics with an entry for the demonstrations' embodiment.

    From scratch there is nothing to keep: they are computed from the demonstrations alone.
    """
    name, of_policy = demonstrations.embodiment, start.statistics
    own = statistics_of([demonstrations], of_policy.kind)
    size = demonstrations.episodes[0].actions.shape[1]
    if from_scratch or start.config.actions == "metric" or start.config.model.action_size != size:
        return own
    if settings.proprio and not start.config.model.proprio_entries:
        of_policy = replace(of_policy, proprio=own.proprio)
    else:
        require_proprio(start, demonstrations.episodes[0].proprio.shape[1])
    if settings.normalisation == "recompute":
        return of_policy.with_actions(name, own.actions_of(name))
    return of_policy.with_actions(name, of_policy.actions_of(name))


def _clipped(statistics: Statistics, demonstrations: Demonstrations, bound: float) -> float:
    """The share of action entries beyond the head's range."""
    scaling = statistics.actions_of(demonstrations.embodiment)
    actions = np.concatenate([episode.actions for episode in demonstrations.episodes])
    return float((np.abs(scaling.normalise(actions)) > bound + RANGE_TOLERANCE).mean())


def _from_scratch(start: Policy, model: Network, seed: int) -> Network:
    """The network with random weights; a T5 stays what it was before robots: pre-trained."""
    if isinstance(model, Octo):
        return initial_model(model.config, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Octo15(model.config)
    fresh.language.t5.load_state_dict(start.model.language.t5.state_dict())
    return fresh


def _choose_trained(
    model: Network, mode: Mode, settings: FinetuneSettings, new: list[str]
) -> peft.PeftModel | None:
    """Freeze what the mode does not train; with LoRA, insert the adapters into `model`."""
    if mode == "full":
        return None
    # What is new is part of the head, or a module of the network's own.
    trained = list(dict.fromkeys(["head", *(name.partition(".")[0] for name in new)]))
    if mode == "lora":
        return add_adapters(model, settings.lora, settings.seed, trained)
    model.requires_grad_(False)
    for name in trained:
        model.get_submodule(name).requires_grad_(True)
    return None


def _card(
    start: Policy,
    demonstrations: Demonstrations,
    settings: FinetuneSettings,
    mode: Mode,
    from_scratch: bool,
    new: Sequence[str],
    clipped: float,
    summary: TrainingSummary,
) -> str:
    """The model card, without its title."""
    name = start.folder.name
    origin = f"The network of `{name}`, from scratch" if from_scratch else f"`{name}`, fine-tuned"
    listed = ", ".join(f"`{each}`" for each in new) or "none"
    return f"""{origin} (mode {mode}) on {len(demonstrations.episodes)} demonstrations of
`{demonstrations.env_id}` (sha256 `{demonstrations.sha256[:12]}`).

- Steps: {summary.steps}, training time: {summary.seconds / 60:.1f} min
- Final loss: {summary.final_loss:.4f}
- Modules that `{name}` had no weights for: {listed}
- Action entries beyond the range of the head: {clipped:.2%}

{describe(settings)}
"""
