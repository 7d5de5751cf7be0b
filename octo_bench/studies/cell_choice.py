"""Selecting cells of a study, and comparing them with the committed results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from octo_bench.errors import OctoBenchError
from octo_bench.records.record import (
    VARYING_COLUMNS,
    EpisodeRecord,
    measure_of,
    read_records,
    succeeded,
)
from octo_bench.statistics.completion import Completion
from octo_bench.statistics.intervals import Interval
from octo_bench.studies.artifacts import RECORDS
from octo_bench.studies.cells import Cell, place_of
from octo_bench.studies.replaying import listed, option, shown
from octo_bench.studies.study import Study

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rerun:
    """A cell's episodes as measured now, and as committed.

    Attributes:
        cell: which one.
        measured: the new episodes.
        committed: those with the same numbers in the study's folder; none if it has none.
    """

    cell: Cell
    measured: tuple[EpisodeRecord, ...]
    committed: tuple[EpisodeRecord, ...]

    def _counts(self, records: Sequence[EpisodeRecord]) -> Completion:
        """Successes that held if both sides tell that, else those that were reached."""
        measure = measure_of([*self.measured, *self.committed])
        fit = [record for record in records if not record.error]
        successes = sum(succeeded(record, measure) for record in fit)
        return Completion(successes, len(fit), len(records) - len(fit))

    @property
    def interval(self) -> Interval | None:
        """Clopper and Pearson's, 95 %, of the committed rate; None without committed episodes."""
        counts = self._counts(self.committed)
        if not counts.completed:
            return None
        return counts.interval(CONFIDENCE)

    @property
    def is_outside(self) -> bool:
        """Whether the new rate lies outside the committed interval."""
        counts = self._counts(self.measured)
        if self.interval is None or not counts.completed:
            return False
        return counts.rate not in self.interval

    @property
    def differing(self) -> dict[str, int]:
        """In how many episodes each column differs; an episode that one lacks differs in all.

        `VARYING_COLUMNS` are left out: they differ from run to run.
        """
        both = self.measured, self.committed
        now, before = ({record.episode: asdict(record) for record in each} for each in both)
        columns = [name for name in asdict(self.measured[0]) if name not in VARYING_COLUMNS]
        counts = {
            name: sum(
                now.get(number, {}).get(name) != before.get(number, {}).get(name)
                for number in now.keys() | before.keys()
            )
            for name in columns
        }
        return {name: count for name, count in counts.items() if count}

    @property
    def lines(self) -> tuple[str, ...]:
        """For people: the cell, both rates, and whether the records are identical."""
        measured = self._counts(self.measured)
        said = f"  measured {_rate(measured)}"
        if not self.committed:
            return (str(self.cell), f"{said}; the study has no committed episodes of this cell")
        said += f", committed {_rate(self._counts(self.committed))}"
        if self.interval is not None:
            low, high = 100 * self.interval.low, 100 * self.interval.high
            side = "OUTSIDE" if self.is_outside else "within"
            said += f": {side} its 95 % interval, {low:.0f} to {high:.0f} %"
        if not self.differing:
            return (str(self.cell), said, f"  all {len(self.measured)} episode records identical")
        columns = ", ".join(f"{name} in {count}" for name, count in self.differing.items())
        episodes = len({r.episode for r in (*self.measured, *self.committed)})
        return (str(self.cell), said, f"  records differ, of {episodes} episodes: {columns}")


def select(
    cells: Sequence[Cell],
    wanted: Mapping[str, Collection[str | int] | None],
    study: Study,
    sample: int | None = None,
    sample_seed: int = 0,
) -> tuple[Cell, ...]:
    """Some of a study's cells, in the order of its declaration.

    Args:
        cells: all of the study.
        wanted: values of `COLUMNS` to choose; None or nothing for any.
        study: whose they are, for messages.
        sample: choose so many of these at random, each alike likely; None for all.
        sample_seed: of that choice.

    Raises:
        OctoBenchError: when a choice matches nothing; lists what there is to choose from.
    """
    found = list(cells)
    for column, values in wanted.items():
        if not values:
            continue
        known = list(dict.fromkeys(cell.columns[column] for cell in found))
        for value in values:
            if value not in known:
                raise OctoBenchError(
                    f"{study.file}: has no cell with {option(column)} {shown(value)}"
                    f"{' among those chosen' if len(found) < len(cells) else ''}; "
                    f"choose from {listed(known)}"
                )
        found = [cell for cell in found if cell.columns[column] in values]
    if sample is None:
        return tuple(found)
    if sample > len(found):
        raise OctoBenchError(
            f"{study.file}: --sample {sample} is more than the {len(found)} selected cells; "
            f"choose at most {len(found)}"
        )
    places = np.random.default_rng(sample_seed).choice(len(found), sample, replace=False)
    return tuple(found[place] for place in sorted(places))


def committed_episodes(
    study: Study, cells: Sequence[Cell], folder: Path
) -> dict[Cell, tuple[EpisodeRecord, ...]]:
    """The committed episodes of a study's cells, as far as the study still declares them.

    Raises:
        BadRecords: for records that cannot be read.
    """
    path = folder / RECORDS
    records = read_records(path) if path.is_file() else []
    return {
        cell: tuple(
            record
            for record in records
            if place_of(record) == cell.place and record.episode < study.episodes
        )
        for cell in cells
    }


def _rate(counts: Completion) -> str:
    if not counts.completed:
        return "no completed episode"
    return f"{counts.successes}/{counts.completed} = {100 * counts.rate:.0f} %"
