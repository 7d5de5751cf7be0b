"""The films of a study's page: which episodes, where they lie, and making what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from octo_bench.errors import OctoBenchError
from octo_bench.file_names import plain
from octo_bench.files import atomic_path
from octo_bench.progress import ProgressBar
from octo_bench.records.record import EpisodeRecord, measure_of, succeeded
from octo_bench.studies.artifacts import RECORDS, read_result
from octo_bench.studies.cells import place_of
from octo_bench.studies.replaying import Replay, policy_of

FOLDER = "films"
MOST = 40
"""Films that a page holds at most; they are some 50 kB each."""

RULE = (
    "Of each row of the table, the first episode that succeeded and the first that failed, by "
    "draw, training seed and number: they are not chosen by how they look."
)

_ROW = ("suite", "level", "inference", "policy", "head", "env_id", "demos")


@dataclass(frozen=True)
class Film:
    """A film of one episode; `file` is where it lies, or would."""

    record: EpisodeRecord
    file: Path

    @property
    def is_there(self) -> bool:
        return self.file.is_file()


def choose_films(records: Sequence[EpisodeRecord], folder: Path) -> tuple[Film, ...]:
    """The episodes to show, by `RULE`, in the order of the records.

    Args:
        records: of the study.
        folder: of the study.

    Raises:
        BadFile: when its `study_result.json` is not there or broken.
    """
    cells = read_result(folder)["cells"]
    keys = {place_of(cell): cell["key"] for cell in cells}
    first: dict[tuple, EpisodeRecord] = {}
    for record in sorted(records, key=lambda r: (r.draw, r.train_seed, r.episode)):
        if not record.error:
            first.setdefault((_row(record), _success(record)), record)
    films = []
    for row in dict.fromkeys(_row(record) for record in records):
        for success in (True, False):
            if (record := first.get((row, success))) is not None:
                key = keys.get(place_of(record), "")
                films.append(Film(record, folder / FOLDER / _name(record, key)))
    return tuple(films)


def make_films(films: Sequence[Film], folder: Path) -> list[str]:
    """Make the films that are missing, where the policy is there; returns what went wrong.

    An episode that does not repeat as it was measured (on another machine, or with other code)
    is not shown: the film would show something that was not counted.
    """
    missing: dict[tuple[str, tuple], dict[EpisodeRecord, Film]] = {}
    for film in films:
        if not film.is_there:
            try:
                policy = policy_of(film.record, folder / RECORDS)
            except OctoBenchError:
                continue  # not on this machine: the page says so
            missing.setdefault((policy, _row(film.record)), {})[film.record] = film
    problems = []
    for (policy, _), together in ProgressBar(missing.items(), desc="films", disable=not missing):
        problems += _film(policy, together)
    return problems


def _film(policy: str, films: dict[EpisodeRecord, Film]) -> Iterator[str]:
    """Write films of one policy in one environment; yields what went wrong."""
    # MuJoCo and PyTorch: only for those who make films.
    from octo_bench.films.small_films import encode, film_episodes

    try:
        filmed = film_episodes(policy, list(films))
    except OctoBenchError as error:
        yield f"no film with {policy}: {error}"
        return
    for each in filmed:
        replayed = Replay(each.recorded, each.again)
        if replayed.matches:
            with atomic_path(films[each.recorded].file) as temporary:
                temporary.write_bytes(encode(each.frames))
        else:
            record = each.recorded
            yield (
                f"no film of episode {record.episode} of {record.policy}, {record.env_id}, "
                f"{record.demos} demonstrations: it does not repeat here as it was measured"
            )


def _success(record: EpisodeRecord) -> bool:
    return succeeded(record, measure_of([record]))


def _row(record: EpisodeRecord) -> tuple:
    return tuple(getattr(record, name) for name in _ROW)


def _name(record: EpisodeRecord, key: str) -> str:
    """The same for the same episode of the same cell; another cell's key gives another name."""
    parts = [record.policy, record.env_id.partition("/")[2].rpartition("-v")[0]]
    parts += [f"{record.demos:03d}"]
    parts += [f"{record.suite}-{record.level}"] if record.suite else []
    parts += [record.inference] if record.inference else []
    parts += [key[:8]] if key else []
    parts += [f"{record.episode:04d}", "success" if _success(record) else "failure"]
    return "-".join(plain(part) for part in parts) + ".mp4"
