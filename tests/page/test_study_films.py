"""Films for a study's page: of the episodes that were measured, small, and always the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.reading_films import frames_of, rate_and_codec_of
from helpers.synthetic_study import write_study
from octo_bench.films.small_films import LARGEST, SIZE, encode, film_episodes
from octo_bench.page.films import choose_films, make_films
from octo_bench.records.record import VARYING_COLUMNS, EpisodeRecord
from octo_bench.rollouts.evaluate import evaluate

LIFT = "octo_bench/Lift-Panda-v1"


@pytest.fixture(scope="module")
def records() -> list[EpisodeRecord]:
    return evaluate("expert", LIFT, 3, progress=False)


def moving(frames: int, noise: float) -> list[np.ndarray]:
    """Frames (256, 256, 3) of a square that moves over noise."""
    generator = np.random.default_rng(0)
    film = generator.integers(0, int(255 * noise) + 1, (frames, 256, 256, 3)).astype(np.uint8)
    for number, frame in enumerate(film):
        frame[100:140, number : number + 40] = 255
    return list(film)


def test_films_are_small_even_of_noise() -> None:
    assert len(encode(moving(100, 1.0))) <= LARGEST


def test_films_run_as_fast_as_the_robot_and_hold_their_end(tmp_path: Path) -> None:
    film = encode(moving(200, 0.0))
    assert film == encode(moving(200, 0.0))
    (tmp_path / "film.mp4").write_bytes(film)
    frames = frames_of(tmp_path / "film.mp4")
    # Every other of 200, and the last held for a second; 10 a second, as fast as the robot.
    assert frames.shape == (100 + 1 + 10, SIZE, SIZE, 3)
    assert rate_and_codec_of(tmp_path / "film.mp4") == (10, "h264")


def test_the_index_of_a_film_comes_first_and_nothing_tells_when_it_was_made() -> None:
    film = encode(moving(10, 0.0))
    assert film.index(b"moov") < film.index(b"mdat")
    assert b"Lavf" not in film


def test_episodes_come_out_as_they_were_measured(records: list[EpisodeRecord]) -> None:
    filmed = film_episodes("expert", [records[2], records[0]])
    assert sorted(each.recorded.episode for each in filmed) == [0, 2]
    for each in filmed:
        named = replace(
            each.again, policy="expert", policy_fingerprint="expert", **varying(each.recorded)
        )
        assert named == each.recorded
        assert len(each.frames) == each.recorded.steps + 1


def varying(record: EpisodeRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in VARYING_COLUMNS}


def test_what_comes_out_otherwise_is_not_shown(
    records: list[EpisodeRecord], tmp_path: Path
) -> None:
    other = replace(records[1], success_once=False, success_held=False, furthest_stage="reach")
    folder = write_study(tmp_path, [records[0], other])
    films = choose_films([records[0], other], folder)
    (problem,) = make_films(films, folder)
    assert "episode 1 of expert" in problem and "does not repeat here as it was measured" in problem
    assert [film.is_there for film in films] == [True, False]
    assert films[0].file.stat().st_size <= LARGEST
    before = films[0].file.stat().st_mtime_ns
    make_films(films, folder)
    assert films[0].file.stat().st_mtime_ns == before


def test_a_policy_that_is_not_there_is_no_problem(
    records: list[EpisodeRecord], tmp_path: Path
) -> None:
    trained = [replace(record, demos=50, policy="octo-tiny") for record in records]
    folder = write_study(tmp_path, trained)
    films = choose_films(trained, folder)
    assert make_films(films, folder) == []
    assert not any(film.is_there for film in films)


def test_two_episodes_of_one_number_are_refused(records: list[EpisodeRecord]) -> None:
    with pytest.raises(ValueError, match="2 episodes"):
        film_episodes("expert", [records[0], records[0]])
