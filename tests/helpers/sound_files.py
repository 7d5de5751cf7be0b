"""One sound file of each type that commands read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np


def make_files(root: Path) -> None:
    """Sound files, without simulating or training anything."""
    from helpers.synthetic import tiny_config, toy_demonstrations
    from helpers.synthetic_files import write_demonstrations
    from helpers.synthetic_records import made_up
    from octo_bench.checkpoints.config import find_policy
    from octo_bench.checkpoints.folder import write_policy
    from octo_bench.cli.arguments import CORES
    from octo_bench.definitions.environments import environment
    from octo_bench.demonstrations.normalisation import Statistics
    from octo_bench.demonstrations.windows import statistics_of
    from octo_bench.models.octo import Octo
    from octo_bench.paths import definitions_root, policies_root
    from octo_bench.records.provenance import provenance_of
    from octo_bench.records.record import write_records
    from octo_bench.speed.policies import machine

    write_demonstrations(root / "lift.hdf5", 3)
    statistics: Statistics = statistics_of([toy_demonstrations()], "bounds").shared()
    write_policy(root / "policy", Octo(tiny_config()), 4, statistics, "# policy\n")
    for name, wins in (("a", 15), ("b", 12), ("g", 9)):
        records = [made_up(number, number < wins) for number in range(20)]
        write_records(records, root / f"{name}.parquet", provenance_of(records, 0))
    _write_golden(root / "g.golden.npz")
    _write_study(root / "study")
    shutil.copy(find_policy("octo-tiny") / "recipe.toml", root / "recipe.toml")
    for kind, name, own in (
        ("tasks", "Lift", "MyLift"),
        ("embodiments", "Panda", "MyPanda"),
        ("suites", "lighting", "mine"),
    ):
        (root / "envs" / kind).mkdir(parents=True)
        shutil.copy(
            definitions_root() / kind / f"{name}.toml", root / "envs" / kind / f"{own}.toml"
        )
    banks = root / "envs" / "initial_states"
    banks.mkdir()
    shipped = definitions_root() / "initial_states"
    shutil.copy(shipped / "Lift-Panda.safetensors", banks / "Lift-MyPanda.safetensors")
    sums = (shipped / "SHA256SUMS").read_text().splitlines()
    (line,) = [each for each in sums if each.endswith("  Lift-Panda.safetensors")]
    (banks / "SHA256SUMS").write_text(line.replace("Lift-Panda", "Lift-MyPanda") + "\n")
    row = f'{environment("Lift-Panda").id},100,97,43.1,"reach 2, grasp 1",-1\n'
    (root / "experts.csv").write_text(
        "env_id,seeds,successes,mean_steps,failures,stock_successes\n" + row
    )
    measured = json.loads((policies_root().parent / "results/speed/policies.json").read_text())
    (root / "speed.json").write_text(json.dumps({**measured, "machine": machine(CORES)}))
    _write_released(root / "released")


def _write_golden(path: Path) -> None:
    from octo_bench.agents.inference import Inference
    from octo_bench.agents.protocol import TaskInput
    from octo_bench.comparison.golden import Golden, GoldenPlace, write_golden
    from octo_bench.rollouts.visited import Visited

    rng = np.random.default_rng(0)
    observations = {
        "image_primary": rng.integers(0, 255, (3, 1, 24, 24, 3), dtype=np.uint8),
        "image_wrist": rng.integers(0, 255, (3, 1, 24, 24, 3), dtype=np.uint8),
        "proprio": np.zeros((3, 1, 11), np.float32),
        "timestep_pad_mask": np.ones((3, 1), bool),
    }
    tasks = tuple(TaskInput("lift the red cube", None) for _ in range(3))
    place = GoldenPlace(
        "octo_bench/Lift-Panda-v1",
        Visited(observations, tasks, np.arange(3)),
        np.zeros((3, 4, 7), np.float32),
        np.zeros((3, 4, 7), np.float32),
    )
    write_golden(Golden("octo-tiny", "0" * 64, Inference(), (place,)), path)


def _write_study(folder: Path) -> None:
    from helpers.synthetic_study import episode, write_study

    records = [episode(number, number < 4) for number in range(6)]
    write_study(folder, records)
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("count = 200", "count = 2000"))


def _write_released(folder: Path) -> None:
    from helpers.octo_1_5_reference import FOLDER

    shutil.copytree(FOLDER / "checkpoint", folder)
