"""The training loop that pre-training and fine-tuning share.

Whatever has `requires_grad` is trained. Every random number comes from one generator (and torch's
own, for dropout), whose states are part of the checkpoint, so that a resumed run continues
bit-exactly.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from octo_bench.errors import BadFile, Diverged
from octo_bench.files import atomic_path
from octo_bench.processes.worker import note_progress
from octo_bench.progress import ProgressBar
from octo_bench.reading import require_regular
from octo_bench.training.objective import Objective
from octo_bench.training.settings import Optimisation, TrainingSummary

STATE = "training_state.pt"
LOGS = "logs"
LOSS_SMOOTHING = 0.98
_START_AGAIN = "delete it to start again, or choose another folder"


def train(
    objective: Objective,
    settings: Optimisation,
    out: Path,
    *,
    seed: int,
    fingerprints: Mapping[str, str],
    progress: bool,
) -> TrainingSummary:
    """Train the objective's network in place; it ends with its averaged (EMA) weights.

    Args:
        out: folder of the TensorBoard logs and of the state to resume from; a state that is
            there is continued, and is left there: the caller removes it with `finish` once the
            result is written.
        fingerprints: hashes of everything that the training depends on (data, settings, starting
            weights and so on), by what it is called; a state with others is refused.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _Run(objective, settings, out, seed, fingerprints).run(progress)
    finally:
        torch.set_num_threads(threads)


def finish(out: Path) -> None:
    """Remove the state that an interrupted run would have been resumed from."""
    (out / STATE).unlink(missing_ok=True)


def learning_rate(step: int, settings: Optimisation) -> float:
    """Linear warm-up, then a cosine to zero; `step` counts from 0."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def ema_decay(step: int, settings: Optimisation) -> float:
    """Decay of the averaged weights, rising to its bound; `step` counts from 0."""
    return min(settings.ema_decay, (1 + step) / (10 + step))


class _Run:
    """State of one training run between its steps."""

    def __init__(
        self,
        objective: Objective,
        settings: Optimisation,
        out: Path,
        seed: int,
        fingerprints: Mapping[str, str],
    ) -> None:
        self.objective, self.settings = objective, settings
        self.out, self.fingerprints = out, dict(fingerprints)
        self.generator = torch.Generator().manual_seed(seed)
        self.parameters = [p for p in objective.model.parameters() if p.requires_grad]
        decayed = [p for p in self.parameters if p.ndim > 1]
        plain = [p for p in self.parameters if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            fused=True,
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.step = 0
        self.seconds = 0.0
        self.smoothed = 0.0
        self._resume()
        with self._clock():
            objective.prepare()

    def run(self, progress: bool) -> TrainingSummary:
        """All remaining steps; the model ends with the averaged weights."""
        settings = self.settings
        writer = SummaryWriter(self.out / LOGS, purge_step=self.step)
        bar = ProgressBar(
            total=settings.steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not progress,
        )
        with bar, writer:
            while self.step < settings.steps:
                with self._clock():
                    loss, norm = self._train_step()
                if not math.isfinite(loss):
                    raise Diverged(self.step + 1, settings.learning_rate)
                note_progress()
                self.step += 1
                weight = min(LOSS_SMOOTHING, 1 - 1 / self.step)
                self.smoothed = weight * self.smoothed + (1 - weight) * loss
                bar.update()
                if self.step % settings.log_every == 0 or self.step == settings.steps:
                    bar.set_postfix(loss=f"{self.smoothed:.4f}", refresh=False)
                    writer.add_scalar("loss", loss, self.step)
                    writer.add_scalar("loss_smoothed", self.smoothed, self.step)
                    writer.add_scalar("gradient_norm", norm, self.step)
                    writer.add_scalar(
                        "learning_rate", learning_rate(self.step - 1, settings), self.step
                    )
                if self.step % settings.checkpoint_every == 0 or self.step == settings.steps:
                    self._save()
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        self.objective.model.eval()
        return TrainingSummary(self.seconds, self.step, self.smoothed)

    def _train_step(self) -> tuple[float, float]:
        """One update; returns the loss and the norm of its gradient before clipping."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        draw = self.objective.windows.draw(settings.batch_size, self.generator)
        loss = self.objective.loss(draw, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip, foreach=True)
        self.optimiser.step()
        with torch.no_grad():
            weight = 1 - ema_decay(self.step, settings)
            torch._foreach_lerp_(self.average, self.parameters, weight)
        return loss.item(), norm.item()

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def _save(self) -> None:
        state: dict[str, Any] = {
            "fingerprints": self.fingerprints,
            "step": self.step,
            "seconds": self.seconds,
            "smoothed": self.smoothed,
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "torch_generator": torch.get_rng_state(),
        }
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_path(self.out / STATE) as temporary:
            temporary.write_bytes(content.getbuffer())

    def _require_same(self, path: Path, written: Mapping[str, str]) -> None:
        """Refuse the state of a run that depends on something else."""
        names = self.fingerprints.keys() | written.keys()
        other = sorted(n for n in names if self.fingerprints.get(n) != written.get(n))
        if other:
            problem = f"belongs to a run that differs in: {', '.join(other)}"
            raise BadFile(path, problem, _START_AGAIN)

    def _resume(self) -> None:
        path = self.out / STATE
        if not os.path.lexists(path):
            return
        require_regular(path, BadFile, _START_AGAIN)
        try:
            state = torch.load(path, weights_only=True)
            self._require_same(path, state["fingerprints"])
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, state["parameters"])
                torch._foreach_copy_(self.average, state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.generator.set_state(state["generator"])
            torch.set_rng_state(state["torch_generator"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.smoothed = float(state["smoothed"])
        except (
            OSError,
            RuntimeError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            EOFError,
            UnpicklingError,
        ) as error:
            raise BadFile(
                path, "cannot be read as the state of a training", _START_AGAIN
            ) from error
