"""The training loop that pre-training and fine-tuning share.

Whatever has `requires_grad` is trained; an encoder that has none is run once over all frames and
its embeddings are kept. Every random number comes from one generator (and torch's own, for
dropout), whose states are part of the checkpoint, so that a resumed run continues bit-exactly.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from octo_bench.demonstrations.windows import Draw, Windows
from octo_bench.errors import BadFile
from octo_bench.files import atomic_path
from octo_bench.models.octo import Octo
from octo_bench.training.augmentation import augment
from octo_bench.training.settings import Optimisation, TrainingSummary

STATE = "training_state.pt"
LOGS = "logs"
LOSS_SMOOTHING = 0.98
EMBEDDING_BATCH = 256


@dataclass(frozen=True)
class Embeddings:
    """What frozen encoders give, computed once; None where an encoder is trained."""

    images: tuple[Tensor, Tensor] | None
    """Primary and wrist embedding of every frame, (N, width) each."""
    instructions: Tensor | None
    """(texts, width)."""


def train(
    model: Octo,
    windows: Windows,
    settings: Optimisation,
    out: Path,
    *,
    seed: int,
    fingerprint: str,
    progress: bool,
) -> TrainingSummary:
    """Train in place; the model ends with its averaged (EMA) weights.

    Args:
        out: folder of the TensorBoard logs and of the state to resume from; a state that is
            there is continued, and is left there: the caller removes it with `finish` once the
            result is written.
        fingerprint: identifies data, settings and starting weights; a state with another one is
            refused.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _Run(model, windows, settings, out, seed, fingerprint).run(progress)
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
        model: Octo,
        windows: Windows,
        settings: Optimisation,
        out: Path,
        seed: int,
        fingerprint: str,
    ) -> None:
        self.model, self.windows, self.settings = model, windows, settings
        self.out, self.fingerprint = out, fingerprint
        self.generator = torch.Generator().manual_seed(seed)
        self.shares = torch.tensor(settings.task_modes.shares, dtype=torch.float64)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
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
        model.train()
        for part in (model.language, model.vision_primary, model.vision_wrist):
            if part is not None and not _trained(part):
                part.eval()
        with self._clock():
            self.embeddings = self._embed()

    def run(self, progress: bool) -> TrainingSummary:
        """All remaining steps; the model ends with the averaged weights."""
        settings = self.settings
        writer = SummaryWriter(self.out / LOGS, purge_step=self.step)
        bar = tqdm(
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
        self.model.eval()
        return TrainingSummary(self.seconds, self.step, self.smoothed)

    def _train_step(self) -> tuple[float, float]:
        """One update; returns the loss and the norm of its gradient before clipping."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        loss = self._loss(self.windows.draw(settings.batch_size, self.generator))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.gradient_clip, foreach=True)
        self.optimiser.step()
        with torch.no_grad():
            weight = 1 - ema_decay(self.step, settings)
            torch._foreach_lerp_(self.average, self.parameters, weight)
        return loss.item(), norm.item()

    def _loss(self, draw: Draw) -> Tensor:
        """The loss of a batch, over all its time steps."""
        model, settings, generator = self.model, self.settings, self.generator
        batch, window = draw.frames.shape
        mode = torch.multinomial(self.shares, batch, True, generator=generator)
        with_text = (mode == 0) | (mode == 2)
        with_goal = (mode == 1) | (mode == 2)

        texts, text_index = _indexed(draw.instructions, with_text)
        goals, goal_index = _indexed(draw.goal_frames, with_goal)
        primary, wrist, goal = self._images(draw.frames.flatten(), goals)
        task = model.task(self._instructions(texts), text_index, goal, goal_index)
        kept = torch.rand(batch, window, generator=generator) >= settings.proprio_dropout
        features = model.features(
            task,
            primary.unflatten(0, (batch, window)),
            wrist.unflatten(0, (batch, window)),
            draw.proprio,
            draw.timestep_mask,
            proprio_mask=kept,
        )
        return model.loss(
            features.flatten(0, 1),
            draw.actions.flatten(0, 1),
            draw.action_mask.flatten(0, 1),
            draws=settings.noise_draws,
            generator=generator,
        )

    def _images(self, frames: Tensor, goals: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embeddings of both cameras at `frames` (N,) and of the primary one at `goals` (G,)."""
        if self.embeddings.images is not None:
            primary, wrist = self.embeddings.images
            return primary[frames], wrist[frames], primary[goals] if len(goals) else None
        change, generator = self.settings.augmentation, self.generator
        primary = augment(self.windows.primary(frames), change, generator)
        wrist = augment(self.windows.wrist(frames), change, generator)
        goal = augment(self.windows.primary(goals), change, generator) if len(goals) else None
        with self._precision():
            embedded = self.model.encode_images(primary, wrist, goal)
        return tuple(None if e is None else e.float() for e in embedded)

    def _instructions(self, texts: Tensor) -> Tensor | None:
        """Embeddings of the instructions numbered `texts` (U,)."""
        if not len(texts):
            return None
        if self.embeddings.instructions is not None:
            return self.embeddings.instructions[texts]
        return self.model.encode_instructions([self.windows.texts[i] for i in texts.tolist()])

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.settings.vision_bfloat16)

    @torch.no_grad()
    def _embed(self) -> Embeddings:
        """Run the encoders that are not trained over all there is."""
        model, windows = self.model, self.windows
        images = instructions = None
        encoders = [e for e in (model.vision_primary, model.vision_wrist) if e is not None]
        if not any(_trained(encoder) for encoder in encoders):
            parts = [
                model.encode_images(windows.primary(frames), windows.wrist(frames))[:2]
                for frames in torch.arange(windows.frame_count).split(EMBEDDING_BATCH)
            ]
            images = tuple(torch.cat(camera) for camera in zip(*parts, strict=True))
        if not _trained(model.language):
            instructions = model.encode_instructions(windows.texts)
        return Embeddings(images, instructions)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def _save(self) -> None:
        state: dict[str, Any] = {
            "fingerprint": self.fingerprint,
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

    def _resume(self) -> None:
        path = self.out / STATE
        if not path.exists():
            return
        mend = "delete it to start again, or choose another folder"
        try:
            state = torch.load(path, weights_only=True)
            if state["fingerprint"] != self.fingerprint:
                raise BadFile(path, "belongs to a run with other data or settings", mend)
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, state["parameters"])
                torch._foreach_copy_(self.average, state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.generator.set_state(state["generator"])
            torch.set_rng_state(state["torch_generator"])
        except (RuntimeError, KeyError, TypeError, ValueError, EOFError, UnpicklingError) as error:
            raise BadFile(path, "cannot be read as the state of a training", mend) from error
        self.step, self.seconds = state["step"], state["seconds"]
        self.smoothed = state["smoothed"]


def _trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def _indexed(values: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct `values` (B,) among the rows that are `used`, and each row's position there.

    Rows that are not used get position -1.
    """
    distinct, positions = torch.unique(values[used], return_inverse=True)
    index = torch.full_like(values, -1)
    index[used] = positions
    return distinct, index
