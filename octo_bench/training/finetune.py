"""Fine-tuning a policy on demonstrations of one environment: full, LoRA, or the head only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import peft
import torch

from octo_bench.demonstrations.dataset import Demonstrations
from octo_bench.demonstrations.normalisation import Statistics
from octo_bench.demonstrations.windows import Windows, statistics_of
from octo_bench.files import sha256_file
from octo_bench.models.octo import Octo
from octo_bench.training.loop import finish, train
from octo_bench.training.policy import WEIGHTS, describe, find_policy, read_policy, write_policy
from octo_bench.training.pretrain import fingerprint, initial_model
from octo_bench.training.settings import Optimisation, TrainingSummary

ADAPTER = "adapter"
LORA_TARGETS = ("q_proj", "v_proj")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the attention's query and value projections (Hu et al. 2022)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05


@dataclass(frozen=True)
class FinetuneSettings:
    """How a policy is fine-tuned.

    `mode`: "full" trains everything; "lora" trains adapters and the action head; "head" the
    action head. With the last two the vision encoder is frozen, so it runs once per frame and
    images are not augmented. `normalisation`: "policy" scales actions as in pre-training, so
    that the head's outputs keep their meaning; "recompute" takes the demonstrations' own.
    """

    mode: Literal["full", "lora", "head"] = "full"
    normalisation: Literal["policy", "recompute"] = "policy"
    seed: int = 0
    lora: Lora = field(default_factory=Lora)
    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(
            steps=1000, learning_rate=5e-4, warmup=50, ema_decay=0.995
        )
    )


def finetune(
    policy: str | Path,
    demonstrations: Demonstrations,
    out: Path,
    settings: FinetuneSettings,
    *,
    from_scratch: bool = False,
    progress: bool = True,
) -> TrainingSummary:
    """Fine-tune and write a policy folder.

    Args:
        policy: a name under `policies/`, a folder, or a Hub id.
        from_scratch: start from random weights of the same network instead (the comparison that
            tells what pre-training is worth); everything is then trained, whatever the mode.
    """
    start = read_policy(find_policy(policy))
    statistics = _statistics(start.statistics, demonstrations, settings)
    config = start.config.model
    windows = Windows(
        [demonstrations],
        statistics,
        window=config.window,
        chunk=config.chunk,
        proprio=config.proprio,
    )
    model = initial_model(config, settings.seed) if from_scratch else start.model
    mode = "full" if from_scratch else settings.mode
    adapted = _choose_trained(model, mode, settings)
    summary = train(
        model,
        windows,
        settings.optimisation,
        out,
        seed=settings.seed,
        fingerprint=fingerprint(
            {**asdict(settings), "from_scratch": from_scratch},
            sha256_file(start.folder / WEIGHTS),
            demonstrations.sha256,
            str([episode.seed for episode in demonstrations.episodes]),
        ),
        progress=progress,
    )
    if adapted is not None:
        adapted.save_pretrained(out / ADAPTER)
        model = adapted.merge_and_unload()
    card = _card(out.name, start.folder.name, demonstrations, settings, mode, from_scratch, summary)
    write_policy(out, model, start.config.execute, statistics, card)
    finish(out)
    return summary


def _statistics(
    start: Statistics, demonstrations: Demonstrations, settings: FinetuneSettings
) -> Statistics:
    """The policy's statistics with an entry for the demonstrations' embodiment."""
    name = demonstrations.embodiment
    if settings.normalisation == "recompute":
        return start.with_actions(
            name, statistics_of([demonstrations], start.kind).actions_of(name)
        )
    return start.with_actions(name, start.actions_of(name))


def _choose_trained(
    model: Octo, mode: Literal["full", "lora", "head"], settings: FinetuneSettings
) -> peft.PeftModel | None:
    """Freeze what the mode does not train; with LoRA, insert the adapters into `model`."""
    if mode == "full":
        return None
    if mode == "head":
        model.requires_grad_(False)
        model.head.requires_grad_(True)
        return None
    lora = settings.lora
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=list(LORA_TARGETS),
                modules_to_save=["head"],
            ),
        )


def _card(
    name: str,
    start: str,
    demonstrations: Demonstrations,
    settings: FinetuneSettings,
    mode: str,
    from_scratch: bool,
    summary: TrainingSummary,
) -> str:
    """The model card."""
    origin = f"The network of `{start}`, from scratch" if from_scratch else f"`{start}`, fine-tuned"
    return f"""# {name}

{origin} (mode {mode}) on {len(demonstrations.episodes)} demonstrations of
`{demonstrations.env_id}` (sha256 `{demonstrations.sha256[:12]}`).

- Steps: {summary.steps}, training time: {summary.seconds / 60:.1f} min
- Final loss: {summary.final_loss:.4f}

{describe(settings)}
"""
