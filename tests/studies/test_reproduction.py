"""A whole study, small but real: the same with any number of workers, and after any stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.synthetic import tiny_config, toy_demonstrations
from octo_bench.checkpoints.folder import write_policy
from octo_bench.cli import INTERRUPTED, TERMINATED, run
from octo_bench.demonstrations.windows import statistics_of
from octo_bench.models.octo import Octo
from octo_bench.records.record import VARYING_COLUMNS, EpisodeRecord, read_records

DECLARATION = """
title = "A small study"
seed = 0
episodes = 4

[[policies]]
policy = "{policy}"
head = "diffusion"

[[targets]]
env = "octo_bench/Lift-Panda-v1"
demos = [0, 2]
reference = "reference.csv"

[demonstrations]
count = 2
first_seed = 1000

[finetune]
mode = "full"
steps = {{ 2 = 40 }}
optimisation = {{ batch_size = 4, checkpoint_every = 2 }}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    policy = folder / "tiny"
    statistics = statistics_of([toy_demonstrations()], "bounds")
    # Strides as large as they go, for speed; 8 channels would meet a bug of oneDNN: the gradient
    # of a 1 x 1 convolution with stride 2 in channels-last order crashes at 48 pixels.
    vision = replace(tiny_config().vision, widths=(16, 16), strides=(2, 2), stem_stride=4)
    config = tiny_config(image_size=96, vision=vision)
    write_policy(policy, Octo(config), 4, statistics, "# card\n")
    (folder / "reference.csv").write_text("demos,success_rate,training_minutes\n0,0.35,0\n")
    (folder / "study.toml").write_text(DECLARATION.format(policy=policy))
    return folder / "study.toml"


@pytest.fixture(scope="module")
def alone(study: Path) -> Path:
    """Where the study has run with one worker."""
    out = study.parent / "alone"
    assert run(["reproduce", str(study), "--workers", "1", "--out", str(out)]) == 0
    return out


def determined(out: Path) -> list[EpisodeRecord]:
    """The records, without what differs from run to run."""
    same = dict.fromkeys(VARYING_COLUMNS, 0.0)
    return [replace(r, **same) for r in read_records(out / "episodes.parquet")]


def weights(out: Path) -> dict[str, bytes]:
    files = out.glob("cells/*/policy/model.safetensors")
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def start(study: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    command = ["reproduce", str(study), "--workers", str(workers), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-c", "from octo_bench.cli import main; main()", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_study_leaves_records_table_figure_and_what_it_was_measured_with(alone: Path) -> None:
    records = read_records(alone / "episodes.parquet")
    assert [(record.demos, record.episode) for record in records] == [
        (demos, episode) for demos in (0, 2) for episode in range(4)
    ]
    assert records[0].initial_state_sha256 == records[4].initial_state_sha256
    assert records[0].initial_state_sha256 != records[1].initial_state_sha256
    assert "| 0 | 0/4 = 0 % |" in (alone / "table.md").read_text()
    assert len((alone / "table.csv").read_text().splitlines()) == 3
    assert (alone / "figure.svg").is_file()
    assert (alone / "figure.png").is_file()
    result = json.loads((alone / "study_result.json").read_text())
    assert result["versions"]["mujoco"]
    assert [cell["demos"] for cell in result["cells"]] == [0, 2]
    assert result["cells"][1]["training"]["steps"] == 40
    assert not list(alone.rglob(".*.tmp"))


def test_an_episode_of_a_fine_tuned_policy_is_replayed_bit_for_bit(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.mp4"
    assert run(["replay", str(alone), "1", "--demos", "2", "--out", str(film)]) == 0
    assert "trajectory_sha256: the same" in capsys.readouterr().out
    assert film.stat().st_size > 1000


def test_two_workers_measure_the_same(study: Path, alone: Path) -> None:
    out = study.parent / "together"
    assert run(["reproduce", str(study), "--workers", "2", "--out", str(out)]) == 0
    assert determined(out) == determined(alone)
    assert weights(out) == weights(alone)


def test_killed_and_started_again_measures_the_same(study: Path, alone: Path) -> None:
    out = study.parent / "killed"
    for file in ("demonstrations/*.hdf5", "cells/*/policy/training_state.pt"):
        with start(study, out, 2) as process:
            # A fast machine may be done before it is looked at; there is nothing to kill then.
            wait_until(lambda file=file, of=process: any(out.glob(file)) or of.poll() is not None)
            process.kill()
    assert run(["reproduce", str(study), "--workers", "2", "--out", str(out)]) == 0
    assert determined(out) == determined(alone)
    assert weights(out) == weights(alone)


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]
)
def test_an_interrupt_ends_with_one_line_and_nothing_half_written(
    study: Path, how: signal.Signals, code: int
) -> None:
    out = study.parent / f"interrupted{code}"
    with start(study, out, 2) as process:
        wait_until(lambda: any(out.glob("demonstrations/.*")))
        process.send_signal(how)
        assert process.wait(60) == code
        assert (
            process.stderr.read().splitlines()[-1].startswith("interrupted; finished work is kept")
        )
    assert not list(out.rglob(".*.tmp"))
    for gathered in out.glob("*.parquet"):  # whole cells, if one was finished so soon
        assert [record.demos for record in read_records(gathered)] == [0] * 4


def test_what_is_done_is_not_done_again(
    study: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in alone.glob("cells/*/*")}
    assert run(["reproduce", str(study), "--out", str(alone)]) == 0
    assert "4 of 4 tasks are already done" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in alone.glob("cells/*/*")} == before


def test_two_runs_in_one_folder_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study.parent / "twice"
    with start(study, out, 1) as process:
        wait_until((out / "cells").exists)
        assert run(["reproduce", str(study), "--out", str(out)]) == 2
        assert "another process is writing it" in capsys.readouterr().err
        process.send_signal(signal.SIGINT)
