"""Watching one episode: a film, or a strip of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.sources import load_agent
from octo_bench.definitions.environments import environment
from octo_bench.errors import BadFile
from octo_bench.files import atomic_path
from octo_bench.films.encoding import encode_film
from octo_bench.progress import ProgressBar
from octo_bench.records.record import EpisodeRecord
from octo_bench.rollouts.episodes import roll_out, use_one_thread
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.world import CONTROL_FREQUENCY

STRIP_PICTURES = 6
FORMATS = (".mp4", ".gif", ".png")


def watch(
    policy: str,
    env_id: str,
    episode: int,
    out: Path,
    study_seed: int = 0,
    suite: str = "",
    level: int = 1,
    inference: Inference = DEFAULT,
    *,
    progress: bool = True,
) -> EpisodeRecord:
    """Roll out one episode as `evaluate` does, and film it with the front camera.

    Args:
        policy: "random", "expert", a name under `policies/`, a folder or a Hub id.
        env_id: the environment.
        episode: its number.
        out: a film (.mp4, .gif), or a strip of pictures from start to end (.png).
        study_seed, suite, level, inference: as for `evaluate`.
        progress: show a progress bar of the episode's steps.

    Raises:
        BadFile: for another kind of file.
    """
    if out.suffix not in FORMATS:
        raise BadFile(out, "is not a kind of film or picture", f"use one of {', '.join(FORMATS)}")
    declared = environment(env_id)
    use_one_thread()
    agent = load_agent(policy, declared, inference)
    filmed = FilmedEnvironment(
        declared.id,
        images=agent.wants_images,
        render_mode="rgb_array",
        suite=suite,
        level=level,
    )
    with ProgressBar(desc=f"watch {declared.id}", unit="step", disable=not progress) as bar:
        filmed.on_frame = bar.update
        (record,) = roll_out(agent, [filmed], [episode], study_seed)
    with atomic_path(out) as temporary:
        temporary.write_bytes(_encoded(filmed.frames, out.suffix))
    filmed.close()
    return record


def _encoded(frames: Sequence[np.ndarray], suffix: str) -> bytes:
    """The frames as a film, or for `.png` a few of them side by side."""
    if suffix == ".png":
        chosen = np.linspace(0, len(frames) - 1, STRIP_PICTURES).round().astype(int)
        strip = np.concatenate([frames[index] for index in chosen], axis=1)
        return imageio.v3.imwrite("<bytes>", strip, extension=suffix)
    if suffix == ".gif":
        pause = 2000 / CONTROL_FREQUENCY  # ms, every other frame
        every_other = np.stack(frames[::2])
        return imageio.v3.imwrite("<bytes>", every_other, extension=suffix, duration=pause, loop=0)
    return encode_film(frames, CONTROL_FREQUENCY)


class FilmedEnvironment(OctoBenchEnvironment):
    """Keeps a frame of every step of the present episode, and calls `on_frame` after each."""

    on_frame: Callable[[], Any] | None = None

    def reset(self, **arguments: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        started = super().reset(**arguments)
        self.frames = [self.render()]
        return started

    def step(
        self, action: np.ndarray, *, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        stepped = super().step(action, observe=observe)
        self.frames.append(self.render())
        if self.on_frame is not None:
            self.on_frame()
        return stepped
