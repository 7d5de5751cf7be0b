"""Folders that are no checkpoint of Octo 1.5: one line says what each is and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from test_conversion_mistakes import mistake

from helpers.flax_files import write_arrays
from helpers.octo_1_5_files import BATCH, CONFIG, HEAD, PARAMETERS, edit_json
from helpers.octo_1_5_reference import FIXTURE
from octo_bench.checkpoints.arrays import read_arrays
from octo_bench.checkpoints.conversion import convert
from octo_bench.cli import run

STEP = "300000"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "source"))


def ocdbt(source: Path) -> None:
    default = source / STEP / "default"
    (default / "checkpoint").unlink()
    (default / "manifest.ocdbt").write_bytes(b"\x0c\xdb")
    (default / "d").mkdir()
    (default / "ocdbt.process_0" / "d").mkdir(parents=True)


def ocdbt_beside_placeholders(source: Path) -> None:
    write_arrays(source / PARAMETERS, {"kernel": "PLACEHOLDER://kernel"})
    (source / STEP / "default" / "manifest.ocdbt").write_bytes(b"\x0c\xdb")


def zarr(source: Path) -> None:
    (source / PARAMETERS).unlink()
    array = source / STEP / "default" / "octo_transformer.task_language_projection.kernel"
    array.mkdir()
    (array / ".zarray").write_text("{}")


def of_1_0(source: Path) -> None:
    batch = {
        name.replace("task/", "tasks/", 1): a for name, a in read_arrays(source / BATCH).items()
    }
    write_arrays(source / BATCH, batch)


def padded_as_1_0(source: Path) -> None:
    batch = read_arrays(source / BATCH)
    batch["observation/pad_mask"] = batch.pop("observation/timestep_pad_mask")
    write_arrays(source / BATCH, batch)


def predicting_as_1_0(source: Path) -> None:
    edit_json(source / CONFIG, f"{HEAD}.kwargs.pred_horizon", 4)


def goals_only(source: Path) -> None:
    batch = read_arrays(source / BATCH)
    kept = {name: a for name, a in batch.items() if "language_instruction" not in name}
    write_arrays(source / BATCH, kept)


def of_transformers(source: Path) -> None:
    (source / CONFIG).write_text(json.dumps({"model_type": "t5", "architectures": ["T5Model"]}))


def interrupted(source: Path) -> None:
    (source / STEP).rename(source / f"{STEP}.orbax-checkpoint-tmp-1716")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ocdbt,
            "300000: holds its parameters in Orbax's OCDBT layout, which cannot be read; in JAX",
        ),
        (ocdbt_beside_placeholders, "in Orbax's OCDBT layout"),
        (zarr, "300000: holds its parameters in Orbax's zarr layout, which cannot be read; in JAX"),
        (of_1_0, "source: is a checkpoint of Octo 1.0, which has another network; use Octo 1.5"),
        (padded_as_1_0, "source: is a checkpoint of Octo 1.0"),
        (predicting_as_1_0, "source: is a checkpoint of Octo 1.0"),
        (goals_only, "source: was trained on goal images alone and takes no instruction; convert"),
        (of_transformers, "source: is a model of Hugging Face Transformers, not of Octo; name an"),
        (interrupted, "source: has no finished step: saving was interrupted; copy it again"),
    ],
)
def test_what_the_folder_is_and_what_to_do(
    source: Path, capsys: Any, change: Callable[[Path], None], problem: str
) -> None:
    change(source)
    assert problem in mistake(capsys, source)


@pytest.mark.parametrize(
    ("inside", "problem"),
    [
        (STEP, "is one step of a checkpoint, without its configuration; name {} and --step 300000"),
        (f"{STEP}/default", "is one step of a checkpoint, without its configuration; name {} and"),
        ("state", "is the optimiser's state of a training, not a checkpoint; name the folder"),
        (f"state/{STEP}", "is the optimiser's state of a training, not a checkpoint; name"),
    ],
)
def test_a_folder_inside_a_checkpoint_is_named_with_its_checkpoint(
    source: Path, capsys: Any, inside: str, problem: str
) -> None:
    shutil.copytree(source / STEP, source / "state" / STEP)
    assert run(["convert", str(source / inside), str(source.parent / "converted")]) == 2
    err = capsys.readouterr().err
    assert problem.format(source) in err and str(source) in err and err.count("\n") == 1


def test_a_policy_folder_is_not_converted_again(source: Path, capsys: Any) -> None:
    policy = source.parent / "policy"
    convert(str(source), policy)
    assert "policy: is already a policy folder of octo-bench; use it" in mistake(capsys, policy)


@pytest.mark.parametrize("folder", ["300001", "300001/default"])
def test_an_empty_later_step_is_skipped_and_said(source: Path, capsys: Any, folder: str) -> None:
    (source / folder).mkdir(parents=True)
    assert run(["convert", str(source), str(source.parent / "converted")]) == 0
    out = capsys.readouterr().out
    assert "step 300000\n" in out and "Skipped step 300001: it has no parameters" in out
    with_step = ("--step", "300001")
    shutil.rmtree(source.parent / "converted")
    assert "300001/default/checkpoint: no such file" in mistake(capsys, source, *with_step)


def test_what_orbax_s_file_is_to_be_replaced_with_is_read(source: Path) -> None:
    """The advice of the message: flax's own msgpack of the parameters."""
    arrays = read_arrays(source / PARAMETERS)
    ocdbt(source)
    write_arrays(source / PARAMETERS, {name: np.array(array) for name, array in arrays.items()})
    assert convert(str(source), source.parent / "converted").step == 300000
