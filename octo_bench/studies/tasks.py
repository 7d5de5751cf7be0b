"""The tasks of a study, as the worker processes run them.

The heavy imports are inside the functions: the process that only schedules stays light.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octo_bench.errors import BadDemonstrations
from octo_bench.studies.cells import Cell, policy_sha256
from octo_bench.studies.pretraining import Collection, Pretraining
from octo_bench.training.finetune import FinetuneSettings, finetune
from octo_bench.training.pretrain import initial_model, pretrain_on

if TYPE_CHECKING:
    from octo_bench.definitions.environments import Disturbance
    from octo_bench.demonstrations.dataset import Demonstrations


def collect_demonstrations(
    env: str,
    count: int,
    first_seed: int,
    out: Path,
    workers: int,
    suite: str = "",
    level: int = 1,
    disturbance: Disturbance | None = None,
) -> Mapping[str, Any]:
    """Collect `count` demonstrations into `out`, or go on where that was stopped.

    A file of the study that is damaged, or of something else, is collected again.
    """
    from octo_bench.demonstrations.collecting import collect
    from octo_bench.demonstrations.unfinished import discard
    from octo_bench.files import sha256_file

    collect_all = partial(
        collect,
        env,
        count,
        out,
        first_seed=first_seed,
        suite=suite,
        level=level,
        disturbance=disturbance,
        workers=workers,
        progress=False,
    )
    try:
        summary = collect_all()
    except BadDemonstrations:
        discard(out)
        summary = collect_all()
    return {**dataclasses.asdict(summary), "sha256": sha256_file(out)}


def require_network(pretraining: Pretraining) -> None:
    """See that the recipe's network can be made, before the long work.

    Raises:
        MissingWeights: when pre-trained parts of it are not available.
    """
    initial_model(pretraining.recipe.model, pretraining.recipe.seed)


def pre_train(
    pretraining: Pretraining, demonstrations: Sequence[Path], out: Path
) -> Mapping[str, Any]:
    """Pre-train a policy into the policy folder `out`, or go on where that was stopped.

    Args:
        demonstrations: the file of each of the recipe's `data`, with as many or more.
    """
    recipe = pretraining.recipe
    datasets = [
        _first_of(file, collection, entry.demos)
        for file, collection, entry in zip(
            demonstrations, pretraining.collections, recipe.data, strict=True
        )
    ]
    summary = pretrain_on(recipe, datasets, out, recipe=pretraining.file, progress=False)
    return {**dataclasses.asdict(summary), "policy": policy_sha256(str(out))}


def fine_tune(
    cell: Cell,
    policy: str,
    settings: FinetuneSettings,
    demonstrations: Path,
    per_draw: int,
    out: Path,
) -> Mapping[str, Any]:
    """Fine-tune `policy` for the cell into the policy folder `out`, or go on where that stopped.

    Args:
        per_draw: how many of the demonstrations every draw has of its own.
    """
    from octo_bench.demonstrations.dataset import read_demonstrations

    summary = finetune(
        policy,
        read_demonstrations(demonstrations, cell.demos, cell.draw, per_draw),
        out,
        settings,
        from_scratch=cell.policy.from_scratch,
        progress=False,
    )
    return dataclasses.asdict(summary)


def measure(
    cell: Cell, policy: str, seed: int, first_episode: int, episodes: int, out: Path
) -> Mapping[str, Any]:
    """Roll out some of the cell's episodes with `policy` and write their records to `out`.

    Where a process has died at this before, another one does it: should that die too, this one
    lives to try the rest, and to record as errors the episodes that kill their process.
    """
    from octo_bench.agents.inference import described
    from octo_bench.records.provenance import provenance_of
    from octo_bench.records.record import Labels, write_records
    from octo_bench.rollouts.evaluate import evaluate

    with _marked(out.with_suffix(".begun")) as died_before:
        records = evaluate(
            policy,
            cell.env,
            episodes,
            workers=1,
            study_seed=seed,
            first_episode=first_episode,
            suite=cell.condition.suite,
            level=cell.condition.level,
            inference=described(cell.condition.inference),
            labels=Labels(cell.policy.head or "", cell.demos, cell.draw, cell.train_seed),
            isolated=died_before,
            progress=False,
        )
    # A trained policy lies in a folder of this machine; records call it as the study does.
    named = [dataclasses.replace(record, policy=cell.policy.name) for record in records]
    write_records(named, out, provenance_of(named, seed))
    return {
        "successes": sum(record.success_once for record in named),
        "episodes": len(named),
        "errors": sum(bool(record.error) for record in named),
    }


def _first_of(file: Path, collection: Collection, demos: int) -> Demonstrations:
    """The first demonstrations of a file that may have more of them, and get more.

    Their hash is that of themselves: a training that was stopped goes on even if another recipe
    has made the file grow since.
    """
    from octo_bench.demonstrations.dataset import read_demonstrations

    read = read_demonstrations(file, demos, mapped=True)
    digest = hashlib.sha256(collection.key.encode())
    for episode in read.episodes:
        for array in (episode.proprio, episode.actions):
            digest.update(array.tobytes())
    return dataclasses.replace(read, sha256=digest.hexdigest())


@contextmanager
def _marked(mark: Path) -> Iterator[bool]:
    """A file that stands while something is done; gives whether it stood before: who did it then
    was killed."""
    stood = mark.exists()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield stood
    finally:
        mark.unlink(missing_ok=True)
