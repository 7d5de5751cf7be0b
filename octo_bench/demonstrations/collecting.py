"""Collecting demonstrations: the scripted demonstrator acts, disturbed, and successes are kept.

Noise is added to what is executed, and the demonstrator's clean answer is recorded, so that the
data shows recoveries (Laskey et al., "DART: Noise Injection for Robust Imitation Learning", 2017).

Seeds are tried in order from `first_seed`, and what is kept is the first `demos` successes in
that order, whatever the number of workers.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from octo_bench.definitions import ACTION_SIZE_PER_ARM, environment
from octo_bench.demonstrations.dataset import FORMAT, IMAGES, demo_names
from octo_bench.errors import BadDemonstrations
from octo_bench.experts.demonstrators import demonstrate
from octo_bench.files import explain_full_disk
from octo_bench.simulation.construction import robosuite_settings
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.world import Control
from octo_bench.support import require_supported

NOISE = 0.15
_VERSIONS = ("octo-bench", "robosuite", "mujoco", "numpy")


@dataclass(frozen=True)
class Attempt:
    """One episode of the demonstrator; the arrays are None where it failed."""

    seed: int
    success: bool
    steps: int
    furthest_stage: str
    observations: dict[str, np.ndarray] | None = None
    actions: np.ndarray | None = None
    executed: np.ndarray | None = None
    states: np.ndarray | None = None
    model_file: str = ""


@dataclass(frozen=True)
class CollectionSummary:
    """What collecting came to: demonstrations kept, episodes tried, steps kept."""

    kept: int
    tried: int
    steps: int


def collect(
    env_id: str,
    demos: int,
    out: Path,
    *,
    first_seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> CollectionSummary:
    """Collect `demos` successful demonstrations of an environment into the file `out`.

    A collection that was cut off goes on where it stopped.

    Raises:
        UnknownName: for an unknown environment.
        UnsupportedEnvironment: for one whose demonstrator does not succeed often enough.
        BadDemonstrations: when `out` is not a collection of this environment from this seed.
        BadFile: when the disk is full.
    """
    out = Path(out)
    declared = environment(env_id)
    require_supported(declared)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.part")
    if out.exists():
        kept, tried, steps = _state_of(out, declared.id, first_seed)
        if kept >= demos:
            return CollectionSummary(kept, tried, steps)
        out.replace(partial)
    with explain_full_disk(out):
        summary = _collect_into(partial, declared.id, demos, first_seed, workers, progress)
        partial.replace(out)
    return summary


def attempt(env_id: str, seed: int, *, images: bool = True, control: Control = "fast") -> Attempt:
    """Let the demonstrator try the episode of `seed`."""
    environment_ = _environment(env_id, images, control)
    generator = np.random.default_rng([seed, 1])
    observation, _ = environment_.reset(seed=seed)
    motion = demonstrate(environment_.world)
    observations, actions, executed, states = [], [], [], []
    arms = len(environment_.world.declared.embodiment.arms)
    finished = success = False
    while not finished:
        clean = np.clip(next(motion), -1.0, 1.0).astype(np.float32)
        disturbed = clean.copy()
        for first in range(0, ACTION_SIZE_PER_ARM * arms, ACTION_SIZE_PER_ARM):
            shift = disturbed[first : first + 3]
            shift += NOISE * generator.standard_normal(3, dtype=np.float32)
        disturbed = np.clip(disturbed, -1.0, 1.0)
        observations.append(observation)
        states.append(environment_.world.state())
        actions.append(clean)
        executed.append(disturbed)
        observation, _, success, truncated, info = environment_.step(disturbed)
        finished = success or truncated
    if not success:
        return Attempt(seed, False, len(actions), info["furthest_stage"])
    return Attempt(
        seed,
        True,
        len(actions),
        info["furthest_stage"],
        observations={
            key: np.stack([each[key] for each in observations]) for key in observations[0]
        },
        actions=np.stack(actions),
        executed=np.stack(executed),
        states=np.stack(states),
        model_file=environment_.world.model_xml(),
    )


@cache
def _environment(env_id: str, images: bool, control: Control) -> OctoBenchEnvironment:
    """One environment a process: building it takes a second."""
    return OctoBenchEnvironment(env_id, images=images, control=control)


def _collect_into(
    path: Path, env_id: str, demos: int, first_seed: int, workers: int, progress: bool
) -> CollectionSummary:
    if path.exists() and not _is_readable(path):
        path.unlink()  # a cut in the middle of a write can spoil the whole file
    if not path.exists():
        with h5py.File(path, "w") as file:
            _write_header(file, env_id, first_seed)
    kept, tried, steps = _state_of(path, env_id, first_seed)
    bar = tqdm(total=demos, initial=kept, desc=f"collect {env_id}", disable=not progress)
    with bar, closing(_attempts(env_id, first_seed + tried, workers)) as attempts:
        while kept < demos:
            result = next(attempts)
            tried += 1
            # Opened anew for each, so that a cut leaves whole demonstrations behind.
            with h5py.File(path, "r+") as file:
                if result.success:
                    steps += len(result.actions)
                    _write_demo(file["data"], f"demo_{kept}", result)
                    kept += 1
                    bar.update()
                file["data"].attrs.update(tried=tried, total=steps)
            bar.set_postfix(tried=tried)
    return CollectionSummary(kept, tried, steps)


def _attempts(env_id: str, first_seed: int, workers: int) -> Iterator[Attempt]:
    """Attempts at one seed after the other, in order."""
    if workers <= 1:
        seed = first_seed
        while True:
            yield attempt(env_id, seed)
            seed += 1
    context = multiprocessing.get_context("spawn")
    # Ctrl-C ends the workers at once and without a word: the caller says what there is to say.
    with context.Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_DFL)) as pool:
        seed = first_seed
        pending = [
            pool.apply_async(attempt, (env_id, seed + ahead)) for ahead in range(2 * workers)
        ]
        while True:
            yield pending.pop(0).get()
            seed += 1
            pending.append(pool.apply_async(attempt, (env_id, seed + 2 * workers - 1)))


def _write_header(file: h5py.File, env_id: str, first_seed: int) -> None:
    declared = environment(env_id)
    env_args = {
        "env_name": declared.task.robosuite,
        "env_version": importlib.metadata.version("robosuite"),
        "type": 1,  # robomimic's EnvType.ROBOSUITE_TYPE
        "env_kwargs": robosuite_settings(declared),
    }
    file.create_group("data").attrs.update(
        format=FORMAT,
        env_args=json.dumps(env_args),
        env_id=declared.id,
        embodiment=declared.embodiment.name,
        task=declared.task.name,
        instruction=declared.task.instruction,
        paraphrases=json.dumps(declared.task.paraphrases),
        demonstrator=declared.task.demonstrator,
        noise=NOISE,
        versions=json.dumps({name: importlib.metadata.version(name) for name in _VERSIONS}),
        first_seed=first_seed,
        tried=0,
        total=0,
    )


def _write_demo(data: h5py.Group, name: str, result: Attempt) -> None:
    if name in data:  # half-written when the collection was cut off
        del data[name]
    demo = data.create_group(name)
    for key, value in result.observations.items():
        packing = {"compression": "gzip", "compression_opts": 1} if key in IMAGES else {}
        demo.create_dataset(f"obs/{key}", data=value, **packing)
    demo.create_dataset("actions", data=result.actions)
    demo.create_dataset("actions_executed", data=result.executed)
    demo.create_dataset("states", data=result.states)
    demo.attrs.update(
        num_samples=len(result.actions), seed=result.seed, model_file=result.model_file
    )


def _is_readable(path: Path) -> bool:
    try:
        with h5py.File(path) as file:
            return "total" in file["data"].attrs
    except (OSError, KeyError):
        return False


def _state_of(path: Path, env_id: str, first_seed: int) -> tuple[int, int, int]:
    """Demonstrations kept, episodes tried, steps kept, of a collection that is to go on."""
    mend = "delete it, or choose another --out"
    try:
        with h5py.File(path) as file:
            found = file["data"].attrs
            if str(found["env_id"]) != env_id or int(found["first_seed"]) != first_seed:
                problem = f"holds {found['env_id']} from seed {found['first_seed']}"
                raise BadDemonstrations(path, problem, mend)
            tried = int(found["tried"])
            whole = [
                demo
                for demo in (file["data"][name] for name in demo_names(file))
                if int(demo.attrs.get("seed", first_seed + tried)) < first_seed + tried
            ]
            return len(whole), tried, sum(int(demo.attrs["num_samples"]) for demo in whole)
    except (OSError, KeyError) as broken:
        raise BadDemonstrations(path, "is no readable collection", mend) from broken
