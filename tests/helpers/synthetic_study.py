"""A study folder made of made-up records: several policies, trainings and conditions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from octo_bench.definitions.environments import environment
from octo_bench.records.record import EpisodeRecord, write_records

STACK, LIFT = "octo_bench/Stack-Panda-v1", "octo_bench/Lift-Panda-v1"
LIFT_IIWA = "octo_bench/Lift-IIWA-v1"
TITLE = 'Two heads <script>alert("no")</script> & two arms'
DIFFUSION, CATEGORICAL = ("octo-tiny", "diffusion"), ("octo-tiny-categorical", "categorical")

_DECLARATION = """
title = '{title}'
seed = 0
episodes = {episodes}
draws = {draws}
train_seeds = {seeds}

[[policies]]
policy = "octo-tiny"
head = "diffusion"

[[policies]]
policy = "octo-tiny-categorical"
head = "categorical"

[[targets]]
env = "octo_bench/Stack-Panda-v1"
demos = [0, 50, 200]
reference = "reference.csv"

[[targets]]
env = "octo_bench/Lift-IIWA-v1"
demos = [50]

[demonstrations]
count = 1000
first_seed = 1000

[finetune.steps]
50 = 1
200 = 1
"""


def episode(number: int, success: bool, **more: object) -> EpisodeRecord:
    """One made-up episode; what is not given is the same for all of its number."""
    values = {"env_id": STACK, "demos": 0, **more}
    declared = environment(str(values["env_id"]))
    stages = declared.task.stages
    start = hashlib.sha256(f"{declared.id} {number}".encode()).hexdigest()
    made = EpisodeRecord(
        env_id=declared.id,
        embodiment=declared.embodiment.name,
        task=declared.task.name,
        policy="octo-tiny",
        head="diffusion",
        demos=0,
        draw=0,
        train_seed=0,
        episode=number,
        env_seed=100_000_000 + number,
        initial_state_sha256=start,
        success_once=success,
        steps=80 + number if success else 200,
        furthest_stage="hold" if success else ["none", *stages[:-1]][number % len(stages)],
        latency_ms_p50=30.0 + number,
        action_jerk=0.1,
        error="",
        success_held=success,
        first_success_step=60 + number if success else 0,
    )
    return replace(made, **values)


def cell(successes: Sequence[bool], **more: object) -> list[EpisodeRecord]:
    """The episodes of one cell, numbered from 0."""
    return [episode(number, bool(success), **more) for number, success in enumerate(successes)]


def made_up_records(episodes: int, trainings: Sequence[tuple[int, int]]) -> list[EpisodeRecord]:
    """Both heads on Stack with the Panda and Lift with the IIWA, and a perturbed condition."""
    generator = np.random.default_rng(0)
    records = []
    for (policy, head), rates in ((DIFFUSION, (0.3, 0.7, 0.95)), (CATEGORICAL, (0.3, 0.35, 0.9))):
        who = {"policy": policy, "head": head}
        for demos, rate in zip((0, 50, 200), rates, strict=True):
            for draw, seed in trainings if demos else [(0, 0)]:
                luck = 0.1 * draw
                where = {"demos": demos, "draw": draw, "train_seed": seed, **who}
                records += cell(generator.random(episodes) < rate - luck, **where)
        for draw, seed in trainings:
            where = {"demos": 50, "draw": draw, "train_seed": seed, "env_id": LIFT_IIWA, **who}
            records += cell(generator.random(episodes) < 0.6, **where)
    perturbed = {"suite": "camera", "level": 2, "inference": "execute=2"}
    records += cell(generator.random(episodes) < 0.2, **perturbed)
    return records


def write_study(folder: Path, records: Sequence[EpisodeRecord]) -> Path:
    """Write the declaration, `records` and what they were measured with; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    trainings = [sorted({getattr(r, name) for r in records}) for name in ("draw", "train_seed")]
    (folder / "study.toml").write_text(
        _DECLARATION.format(
            title=TITLE, episodes=len(records), draws=trainings[0], seeds=trainings[1]
        )
    )
    (folder / "reference.csv").write_text(
        "demos,success_rate,training_minutes\n0,0.35,0\n50,0.68,30\n200,0.30,120\n"
    )
    write_records(records, folder / "episodes.parquet", None)
    names = ("policy", "env_id", "demos", "draw", "train_seed")
    cells = dict.fromkeys(tuple(getattr(record, name) for name in names) for record in records)
    result = {
        "title": TITLE,
        "workers": 2,
        "wall_seconds": 840.0,
        "process_seconds": {"demonstrations": 60.0, "fine-tuning": 1200.0, "evaluation": 300.0},
        "machine": {"processor": "A processor", "cores": 2, "python": "3.11.7"},
        "versions": {"mujoco": "3.6.0", "octo_bench_sources": "5" * 64},
        "policies": {"octo-tiny": {"model.safetensors": "6" * 64}},
        "demonstrations": {"200 demonstrations": {"seconds": 60.0, "sha256": "7" * 64}},
        "cells": [
            {
                **dict(zip(names, values, strict=True)),
                "key": hashlib.sha256(repr(values).encode()).hexdigest(),
                "training": {"seconds": 300.0} if values[2] else None,
            }
            for values in cells
        ],
    }
    (folder / "study_result.json").write_text(json.dumps(result))
    return folder
