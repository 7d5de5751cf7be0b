"""Films of the episodes whose outcome changed: the baseline left, the new policy right."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from octo_bench.agents.inference import Inference
from octo_bench.agents.sources import load_agent
from octo_bench.comparison.matching import Pair
from octo_bench.comparison.regression import Place
from octo_bench.comparison.two_policies import outcome
from octo_bench.definitions.environments import environment
from octo_bench.file_names import plain
from octo_bench.films.encoding import write_film
from octo_bench.films.watching import FilmedEnvironment
from octo_bench.processes.executor import Death
from octo_bench.processes.jobs import stream
from octo_bench.records.record import EpisodeRecord, measure_of, succeeded
from octo_bench.rollouts.episodes import roll_out, use_one_thread
from octo_bench.simulation.world import CONTROL_FREQUENCY

AT_ONCE = 4
"""Episodes that are filmed side by side: their frames are kept until the last one has ended."""
_BAND = 32  # pixels above the picture, for words
_SUCCESS, _FAILURE = (80, 200, 120), (230, 90, 80)


@dataclass(frozen=True)
class Side:
    """One of the two policies: its name in the film, the policy, and its inference options."""

    title: str
    policy: str
    inference: Inference


@dataclass(frozen=True)
class _Job:
    """Episodes of one environment that are filmed together, and their films, by number."""

    pairs: tuple[Pair, ...]
    sides: tuple[Side | None, Side]
    study_seed: int
    out: Mapping[int, Path]


def film_flips(
    flips: Sequence[Pair],
    baseline: Side | None,
    new: Side,
    study_seed: int,
    folder: Path,
    workers: int = 1,
) -> tuple[list[Path], list[str]]:
    """Roll the episodes out again and film them, in processes of their own.

    Args:
        flips: the baseline's episode and the new one.
        baseline: None where the policy is not at hand; then the new one is filmed alone.
        new: the new policy.
        study_seed: what they were measured with.
        folder: a film for each episode is written there.
        workers: processes.

    Returns:
        The films, and a line for each episode that did not repeat as recorded; such a side is
        left out, since it would show something that was not counted.

    Raises:
        OctoBenchError: when a policy or an environment is not available.
    """
    by_place: dict[Place, list[Pair]] = {}
    for pair in flips:
        by_place.setdefault(Place.of(pair[0]), []).append(pair)
    jobs: deque[_Job] = deque()
    for place, pairs in by_place.items():
        for start in range(0, len(pairs), AT_ONCE):
            some = tuple(pairs[start : start + AT_ONCE])
            out = {old.episode: folder / _file_name(place, old.episode) for old, _ in some}
            jobs.append(_Job(some, (baseline, new), study_seed, out))
    films: list[Path] = []
    problems: list[str] = []
    for job, news in stream(_film, jobs, workers):
        if isinstance(news, Death):
            problems.append(f"{', '.join(map(str, job.out.values()))}: not filmed, {news.reason}")
        else:
            films += news[0]
            problems += news[1]
    return sorted(films), problems


def _film(job: _Job) -> Iterator[tuple[list[Path], list[str]]]:
    """Write the films of a job; what `film_flips` returns, of these."""
    shown, problems = [], []
    for side, records in zip(job.sides, zip(*job.pairs, strict=True), strict=True):
        if side is not None:
            pictures, lost = _filmed(side, records, job.study_seed)
            shown.append(pictures)
            problems += lost
    films = []
    for episode, out in job.out.items():
        if sides := [pictures[episode] for pictures in shown if episode in pictures]:
            _write(sides, out)
            films.append(out)
    yield films, problems


def _filmed(
    side: Side, records: Sequence[EpisodeRecord], study_seed: int
) -> tuple[dict[int, np.ndarray], list[str]]:
    """Pictures (T, H, W, 3) by episode, and lines for what went differently this time."""
    use_one_thread()
    first = records[0]
    agent = load_agent(side.policy, environment(first.env_id), side.inference)
    measured = {record.episode: record for record in records}
    numbers = list(measured)
    pictures, problems = {}, []
    with ExitStack() as stack:
        environments = [
            stack.enter_context(
                closing(
                    FilmedEnvironment(
                        first.env_id,
                        images=agent.wants_images,
                        render_mode="rgb_array",
                        suite=first.suite,
                        level=first.level or 1,
                    )
                )
            )
            for _ in numbers
        ]
        # As many environments as episodes: each keeps the frames of its own.
        for again in roll_out(agent, environments, numbers, study_seed):
            record = measured[again.episode]
            if _same(again, record):
                frames = environments[numbers.index(again.episode)].frames
                pictures[again.episode] = _titled(frames, side.title, record)
            else:
                problems.append(
                    f"{record.env_id} episode {record.episode}: {side.policy} did not repeat the "
                    "recorded episode, so that side is not filmed"
                )
    return pictures, problems


def _same(again: EpisodeRecord, measured: EpisodeRecord) -> bool:
    """Whether an episode took the recorded course, as far as the records tell."""
    if measured.trajectory_sha256:
        return again.trajectory_sha256 == measured.trajectory_sha256
    names = (
        "initial_state_sha256",
        "success_once",
        "success_held",
        "steps",
        "furthest_stage",
        "error",
    )
    return all(getattr(again, name) == getattr(measured, name) for name in names)


def _titled(frames: Sequence[np.ndarray], title: str, record: EpisodeRecord) -> np.ndarray:
    """The frames with a band above them: the policy's name and, in colour, the outcome."""
    band = Image.new("RGB", (frames[0].shape[1], _BAND), "black")
    draw = ImageDraw.Draw(band)
    draw.text((6, 2), f"{title}, episode {record.episode}", fill="white")
    draw.text(
        (6, 16),
        outcome(record),
        fill=_SUCCESS if succeeded(record, measure_of([record])) else _FAILURE,
    )
    return np.stack([np.concatenate([np.asarray(band), frame]) for frame in frames])


def _write(sides: Sequence[np.ndarray], out: Path) -> None:
    """The sides next to each other; the one that ends first stands still."""
    length = max(len(side) for side in sides)
    held = [np.concatenate([side, side[-1:].repeat(length - len(side), 0)]) for side in sides]
    write_film(np.concatenate(held, axis=2), out, CONTROL_FREQUENCY)


def _file_name(place: Place, episode: int) -> str:
    """ "Lift-Panda-v1_012.mp4", "Lift-Panda-v1_lighting_2_012.mp4"."""
    suite = f"_{plain(place.suite)}_{place.level}" if place.suite else ""
    return f"{plain(place.env_id.rpartition('/')[2])}{suite}_{episode:03d}.mp4"
