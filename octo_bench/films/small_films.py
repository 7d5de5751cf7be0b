"""Small films of a few episodes of a study, for its page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
from PIL import Image

from octo_bench.agents.inference import described
from octo_bench.agents.sources import load_agent
from octo_bench.definitions.environments import environment
from octo_bench.films.encoding import encode_film
from octo_bench.films.watching import FilmedEnvironment
from octo_bench.records.record import EpisodeRecord
from octo_bench.rollouts.episodes import SLOTS, roll_out, use_one_thread
from octo_bench.simulation.initial_states import study_seed_of
from octo_bench.simulation.world import CONTROL_FREQUENCY

SIZE = 176
"""Height and width of a film, pixels."""
FRAMES_A_SECOND = 10
LARGEST = 60_000
"""Bytes that a film takes at most."""

_QUALITIES = (26, 30, 34, 38, 42, 46, 51)  # x264's, the finest first
_HELD = FRAMES_A_SECOND  # frames for which the end stands still


@dataclass(frozen=True)
class Filmed:
    """An episode that was rolled out again.

    Attributes:
        recorded: how it was measured.
        again: how it came out now.
        frames: (256, 256, 3) uint8 each, `CONTROL_FREQUENCY` a second.
    """

    recorded: EpisodeRecord
    again: EpisodeRecord
    frames: Sequence[np.ndarray]


def film_episodes(policy: str, records: Sequence[EpisodeRecord]) -> list[Filmed]:
    """Roll episodes out again and keep what the front camera saw.

    Args:
        policy: what all of them were measured with: a name, a folder or a Hub id.
        records: at most `SLOTS`, of one environment, study seed, suite, level and inference, with
            different numbers.

    Raises:
        OctoBenchError: when the policy or the environment is not available.
    """
    by_number = {record.episode: record for record in records}
    if not 0 < len(by_number) == len(records) <= SLOTS:
        raise ValueError(f"{len(records)} episodes; film from 1 to {SLOTS} different ones at once")
    first = records[0]
    declared = environment(first.env_id)
    use_one_thread()
    agent = load_agent(policy, declared, described(first.inference))
    study_seed = study_seed_of(first.env_seed, first.episode)
    with ExitStack() as stack:
        # As many environments as episodes: each keeps the frames of its own.
        environments = [
            stack.enter_context(closing(_environment(record, agent.wants_images)))
            for record in records
        ]
        again = list(roll_out(agent, environments, list(by_number), study_seed))
        frames = dict(zip(by_number, (each.frames for each in environments), strict=True))
    return [Filmed(by_number[each.episode], each, frames[each.episode]) for each in again]


def encode(frames: Sequence[np.ndarray]) -> bytes:
    """A small H.264 film of `frames`, (H, W, 3) uint8 each, `CONTROL_FREQUENCY` a second.

    It runs as fast as the robot did, holds its last frame for a second, and is the same for the
    same frames. Its quality is the finest at which it is no larger than `LARGEST` bytes; at the
    coarsest even noise is.
    """
    every = CONTROL_FREQUENCY // FRAMES_A_SECOND
    chosen = [*frames[:-1:every], frames[-1]]
    small = [np.asarray(Image.fromarray(frame).resize((SIZE, SIZE))) for frame in chosen]
    film = [*small, *[small[-1]] * _HELD]
    encoded = b""
    for quality in _QUALITIES:
        encoded = encode_film(film, FRAMES_A_SECOND, _parameters(quality))
        if len(encoded) <= LARGEST:
            break
    return encoded


def _parameters(quality: int) -> list[str]:
    """FFmpeg's: one thread and no date, so that a film is determined; the index comes first."""
    return (
        f"-crf {quality} -preset veryslow -threads 1 -fflags +bitexact -flags:v +bitexact "
        "-movflags +faststart"
    ).split()


def _environment(record: EpisodeRecord, images: bool) -> FilmedEnvironment:
    return FilmedEnvironment(
        record.env_id,
        images=images,
        render_mode="rgb_array",
        suite=record.suite,
        level=record.level or 1,
    )
