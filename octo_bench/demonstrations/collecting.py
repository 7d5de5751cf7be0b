"""Collecting demonstrations: the scripted expert acts, disturbed, and successes are kept.

Seeds are tried in order from `first_seed`, and what is kept is the first `demos` successes in
that order, whatever the number of workers.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path

import h5py
import numpy as np

from octo_bench.definitions.environments import Disturbance, environment
from octo_bench.definitions.suites import find_level
from octo_bench.definitions.support import require_supported
from octo_bench.demonstrations.attempts import Attempt, attempt
from octo_bench.demonstrations.dataset import FORMAT
from octo_bench.demonstrations.layout import GRIPPERS, integer, open_checked, text
from octo_bench.demonstrations.unfinished import CollectionSummary, Unfinished, unfinished
from octo_bench.errors import BadDemonstrations
from octo_bench.processes.jobs import in_order
from octo_bench.processes.worker import note_progress
from octo_bench.progress import ProgressBar
from octo_bench.reading import parse_json
from octo_bench.simulation.construction import robosuite_settings

_VERSIONS = ("octo-bench", "robosuite", "mujoco", "numpy")


@dataclass(frozen=True)
class Source:
    """What is collected: an environment's episodes from `first_seed` on, as they are, or as a
    level of a suite changes their look (what is said stays the task's own), and how much the
    scripted expert is disturbed."""

    env_id: str
    first_seed: int
    disturbance: Disturbance
    suite: str = ""
    level: int = 0

    def __str__(self) -> str:
        """For people: "octo_bench/Lift-Panda-v1 from seed 5"."""
        look = f" with '{self.suite}' at level {self.level}" if self.suite else ""
        by = f"{self.disturbance.translation:g} and {self.disturbance.rotation:g}"
        return f"{self.env_id}{look} from seed {self.first_seed}, disturbed by {by}"


def collect(
    env_id: str,
    demos: int,
    out: Path,
    *,
    first_seed: int = 0,
    suite: str = "",
    level: int = 1,
    disturbance: Disturbance | None = None,
    workers: int = 1,
    progress: bool = True,
) -> CollectionSummary:
    """Collect `demos` successful demonstrations of an environment into the file `out`.

    A collection that was cut off goes on where it stopped.

    Args:
        suite: a perturbation whose `level` changes how each episode looks; none if empty.
        disturbance: of the scripted expert, instead of the task's own.

    Raises:
        UnknownName: for an unknown environment or suite.
        UnknownLevel: for a level that the suite does not have.
        UnsupportedEnvironment: for one whose scripted expert does not succeed often enough.
        BadDemonstrations: when `out` is not a collection of this environment from this seed.
        BadFile: when the disk is full.
        InUse: when another process is collecting into `out`.
        ProcessLost: when the processes of a seed die again and again.
    """
    out = Path(out)
    declared = environment(env_id)
    require_supported(declared)
    if suite:
        find_level(suite, level)
    source = Source(
        declared.id,
        first_seed,
        disturbance or declared.task.disturbance,
        suite,
        level if suite else 0,
    )
    with unfinished(
        out,
        first_seed,
        partial(_write_header, source=source),
        partial(_require_same, source=source),
    ) as collection:
        if collection.summary.kept < demos:
            with closing(_attempts(source, collection.summary.tried, workers)) as attempts:
                _collect_into(collection, attempts, source, demos, progress)
        collection.finish()
        return collection.summary


def _collect_into(
    collection: Unfinished, attempts: Iterator[Attempt], source: Source, demos: int, progress: bool
) -> None:
    kept = collection.summary.kept
    with ProgressBar(
        total=demos, initial=kept, desc=f"collect {source.env_id}", disable=not progress
    ) as bar:
        while collection.summary.kept < demos:
            result = next(attempts)
            note_progress()
            if result.success:
                arrays = {f"obs/{key}": values for key, values in result.observations.items()}
                dones = np.zeros(len(result.actions), np.uint8)
                dones[-1] = 1
                arrays |= {
                    "actions": result.actions,
                    "actions_executed": result.executed,
                    "states": result.states,
                    "rewards": result.rewards,
                    "dones": dones,
                }
                attributes = {
                    "num_samples": len(result.actions),
                    "seed": result.seed,
                    "model_file": result.model_file,
                }
                collection.add(result.seed, arrays, attributes, len(result.actions))
                bar.update()
            else:
                collection.tried(result.seed)
            bar.set_postfix(tried=collection.summary.tried)


def _attempts(source: Source, tried: int, workers: int) -> Iterator[Attempt]:
    """Attempts at one seed after the other, in order, after those that were `tried`."""
    try_seed = partial(
        attempt,
        source.env_id,
        suite=source.suite,
        level=source.level,
        disturbance=source.disturbance,
    )
    seeds = count(source.first_seed + tried)
    if workers <= 1:
        yield from map(try_seed, seeds)
    yield from in_order(try_seed, ((seed,) for seed in seeds), workers)


def _write_header(data: h5py.Group, source: Source) -> None:
    """Put on the group of a file what is to be said of all its demonstrations."""
    declared = environment(source.env_id)
    env_args = {
        "env_name": declared.task.robosuite,
        "env_version": importlib.metadata.version("robosuite"),
        "type": 1,  # robomimic's EnvType.ROBOSUITE_TYPE
        "env_kwargs": robosuite_settings(declared),
    }
    data.attrs.update(
        format=FORMAT,
        env_args=json.dumps(env_args),
        env_id=declared.id,
        embodiment=declared.embodiment.name,
        task=declared.task.name,
        instruction=declared.task.instruction,
        paraphrases=json.dumps(declared.task.paraphrases),
        demonstrator=declared.task.demonstrator,
        disturbance=json.dumps(asdict(source.disturbance)),
        versions=json.dumps({name: importlib.metadata.version(name) for name in _VERSIONS}),
        first_seed=source.first_seed,
        suite=source.suite,
        level=source.level,
        tried=0,
        total=0,
        **{GRIPPERS: json.dumps(declared.gripper_entries)},
    )


def _require_same(file: Path, named: Path, source: Source) -> None:
    """Refuse a file that holds demonstrations of something else than `source`.

    Raises:
        BadDemonstrations: naming `named`.
    """
    with open_checked(file) as opened:
        data = opened["data"]
        held = Source(
            text(data, "env_id"),
            integer(data, "first_seed"),
            Disturbance(**parse_json(text(data, "disturbance"))),
            text(data, "suite") if "suite" in data.attrs else "",
            integer(data, "level", 0),
        )
    if held != source:
        raise BadDemonstrations(named, f"holds {held}", "delete it, or choose another --out")
