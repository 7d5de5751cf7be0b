"""Demonstration files as `collect` writes them, of nothing that was simulated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from octo_bench.definitions.environments import environment
from octo_bench.demonstrations.unfinished import unfinished

FIRST_SEED = 5


def write_demonstrations(
    path: Path, demos: int = 3, *, steps: int = 6, size: int = 24, env: str = "Lift-Panda"
) -> Path:
    """A file of random demonstrations; what it holds depends on the arguments alone."""
    with unfinished(path, FIRST_SEED, _header(env), lambda *_: None) as collection:
        for number in range(collection.summary.kept, demos):
            arrays = _arrays(number, steps + number, size)
            seed = FIRST_SEED + 2 * number
            attributes = {"num_samples": steps + number, "seed": seed, "model_file": "<mujoco/>"}
            collection.add(seed, arrays, attributes, steps + number)
        collection.finish()
    return path


def _header(env: str) -> Callable[[h5py.Group], None]:
    task, embodiment = env.split("-")

    def write(data: h5py.Group) -> None:
        data.attrs.update(
            format=1,
            env_id=f"octo_bench/{env}-v1",
            embodiment=embodiment,
            task=task,
            instruction="lift the cube",
            paraphrases=json.dumps(["pick up the cube"]),
            disturbance=json.dumps(asdict(environment(env).task.disturbance)),
            first_seed=FIRST_SEED,
            tried=0,
            total=0,
        )

    return write


def _arrays(number: int, steps: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    images = rng.integers(0, 256, (2, steps, size, size, 3), dtype=np.uint8)
    return {
        "obs/image_primary": images[0],
        "obs/image_wrist": images[1],
        "obs/proprio": rng.normal(size=(steps, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        "actions_executed": rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        "states": rng.normal(size=(steps, 40)),
    }
