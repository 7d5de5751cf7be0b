"""What cannot be converted: one line that names what is wrong, exit code 2, nothing written."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.octo_1_5_files import (
    BATCH,
    CONFIG,
    HEAD,
    PARAMETERS,
    STATISTICS,
    edit_arrays,
    edit_json,
)
from helpers.octo_1_5_reference import FIXTURE
from octo_bench.checkpoints.conversion import convert_parameters
from octo_bench.checkpoints.released import read_released
from octo_bench.cli import run
from octo_bench.errors import BadCheckpoint


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "source"))


def mistake(capsys: Any, source: Path, *options: str) -> str:
    destination = source.parent / "converted"
    assert run(["convert", str(source), str(destination), *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert not destination.exists()
    assert not list(source.parent.glob(".*.tmp"))
    return err


@pytest.mark.parametrize("file", [CONFIG, BATCH, STATISTICS, PARAMETERS])
def test_a_missing_file_is_named(source: Path, capsys: Any, file: str) -> None:
    (source / file).unlink()
    assert f"{source / file}: no such file" in mistake(capsys, source)


@pytest.mark.parametrize("file", [CONFIG, BATCH, STATISTICS, PARAMETERS])
@pytest.mark.parametrize("content", [b"", b"\x00\xff foreign", b"<html></html>", b"[1]"])
def test_a_foreign_file_is_named(source: Path, capsys: Any, file: str, content: bytes) -> None:
    (source / file).write_bytes(content)
    assert f"{source / file}: " in mistake(capsys, source)


@pytest.mark.parametrize("file", [CONFIG, BATCH, STATISTICS, PARAMETERS])
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_file_that_is_cut_off_is_named(
    source: Path, capsys: Any, file: str, share: float
) -> None:
    content = (source / file).read_bytes()
    (source / file).write_bytes(content[: int(len(content) * share)])
    assert f"{source / file}: " in mistake(capsys, source)


def test_a_folder_in_place_of_a_file_is_named(source: Path, capsys: Any) -> None:
    (source / CONFIG).unlink()
    (source / CONFIG).mkdir()
    assert f"{source / CONFIG}: is a folder" in mistake(capsys, source)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("file", [CONFIG, BATCH, STATISTICS, PARAMETERS])
@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_executed(
    source: Path, capsys: Any, file: str, save: Callable[..., None]
) -> None:
    executed = source / "executed"
    with (source / file).open("wb") as handle:
        save(Bomb(executed), handle)
    assert f"{source / file}: " in mistake(capsys, source)
    assert not executed.exists()


def test_a_wrong_step_is_named_with_those_there(source: Path, capsys: Any) -> None:
    assert "has no step 5; steps there: 300000" in mistake(capsys, source, "--step", "5")
    shutil.rmtree(source / "300000")
    assert "has no folder named by a step" in mistake(capsys, source)


BIAS = "octo_transformer/task_language_projection/bias"
QUERY = (
    "octo_transformer/BlockTransformer_0/Transformer_0/encoderblock_1/"
    "MultiHeadDotProductAttention_0/query/kernel"
)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (BIAS, ..., f"'{BIAS}' is missing"),
        (f"{BIAS}es", np.zeros(64, np.float32), f"'{BIAS}es' is not part of the network"),
        (BIAS, np.zeros(63, np.float32), f"'{BIAS}' has the shape (63,), not (64,)"),
        (
            QUERY,
            np.zeros((64, 2, 32), np.float32),
            f"'{QUERY}' has the shape (64, 2, 32), not (64, 4, 16)",
        ),
        (BIAS, "PLACEHOLDER://bias", f"'{BIAS}' is the text 'PLACEHOLDER://bias'"),
        (BIAS, np.zeros(64, np.int32), f"'{BIAS}' has values that are not finite"),
        (BIAS, np.full(64, np.nan, np.float32), f"'{BIAS}' has values that are not finite"),
        (BIAS, np.zeros(64, np.complex64), f"'{BIAS}' has values that are not finite"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(
    source: Path, capsys: Any, name: str, value: Any, problem: str
) -> None:
    edit_arrays(source / PARAMETERS, **{name: value})
    line = mistake(capsys, source)
    assert f"{source / PARAMETERS}: " in line and problem in line


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("model", ..., "'model' is not a table"),
        ("model.use_correct_attention", ..., "'model.use_correct_attention' is missing"),
        ("model.use_correct_attention", False, "'model.use_correct_attention' is not true"),
        ("model.token_embedding_size", "64", "'model.token_embedding_size' is '64', not a whole"),
        ("model.token_embedding_size", 1e12, "is 1000000000000.0, not a whole number"),
        ("model.token_embedding_size", 63, "'heads' = 4 must divide 'width' = 63"),
        ("model.transformer_kwargs.num_layers", 3, "encoderblock_2/LayerNorm_0/scale' is missing"),
        ("model.transformer_kwargs.num_layers", 65536, "encoderblock_2/LayerNorm_0/scale' is"),
        ("model.transformer_kwargs.add_position_embedding", True, "is True, not False"),
        ("model.readouts", {"action": 1, "value": 1}, "unknown key 'model.readouts.value'"),
        ("model.max_horizon", 1, "'window' must lie between 1 and 'max_window' = 1"),
        ("model.heads.value", {}, "unknown key 'model.heads.value'"),
        (f"{HEAD}.name", "UNetActionHead", f"'{HEAD}.name' is 'UNetActionHead', not"),
        (f"{HEAD}.module", "os", f"'{HEAD}.module' is 'os', not 'octo.model"),
        (f"{HEAD}.args", [1], f"'{HEAD}.args' is [1], not []"),
        (f"{HEAD}.kwargs.readout_key", "obs", f"'{HEAD}.kwargs.readout_key' is 'obs', not"),
        ("model.task_tokenizers", {}, "'model.task_tokenizers.language' is missing"),
        (
            "model.observation_tokenizers.wrist.kwargs.encoder.name",
            "ResNet26FILM",
            "wrist.encoder.name' is 'ResNet26FILM', not 'SmallStem16'",
        ),
        (
            "model.observation_tokenizers.wrist.kwargs.encoder.kwargs.features",
            [32, 64, 32, 63],
            "describes no network",
        ),
        (
            "model.observation_tokenizers.wrist.kwargs.obs_stack_keys",
            ["(a+)+$"],
            "has '(a+)+$', which is not a name",
        ),
        (
            "model.observation_tokenizers.wrist.kwargs.obs_stack_keys",
            ["image_.*"],
            "chooses image_primary, image_wrist of the example batch, not one key",
        ),
        (
            "model.observation_tokenizers.wrist.kwargs.task_stack_keys",
            ["image_primary"],
            "puts the goal 'image_primary' beside 'image_wrist'",
        ),
        ("text_processor.name", "MuseEmbedding", "'text_processor.name' is 'MuseEmbedding'"),
    ],
)
def test_what_octo_1_5_does_not_have_is_named(
    source: Path, capsys: Any, place: str, value: Any, problem: str
) -> None:
    edit_json(source / CONFIG, place, value)
    assert problem in mistake(capsys, source)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("made_up_arm_7", 3, "'made_up_arm_7' has no table 'action'"),
        ("made_up_arm_7.action", {}, "'made_up_arm_7.action' has no numbers 'mean' and 'std'"),
        ("made_up_arm_7.action.std", ["a"] * 7, "has no numbers 'mean' and 'std'"),
        ("made_up_arm_7.action.std", [1.0] * 6, "must have as many 'mean' as 'std' and 'mask'"),
        ("made_up_arm_7.action.mask", [1] * 7, "must have as many 'mean' as 'std' and 'mask'"),
        ("made_up_arm_7.action.mean", [1e999] * 7, "must have as many 'mean'"),
        (
            "made_up_arm_7.action",
            {"mean": [0] * 8, "std": [1] * 8},
            "has 8 entries, more than the network's 7",
        ),
    ],
)
def test_statistics_that_do_not_fit_are_named(
    source: Path, capsys: Any, place: str, value: Any, problem: str
) -> None:
    edit_json(source / STATISTICS, place, value)
    line = mistake(capsys, source)
    assert f"{source / STATISTICS}: " in line and problem in line


def test_an_unknown_dataset_is_answered_with_the_nearest(source: Path, capsys: Any) -> None:
    line = mistake(capsys, source, "--dataset", "made_up_arm_8")
    assert "unknown dataset 'made_up_arm_8'" in line and "made_up_arm_7" in line


def test_what_is_neither_a_folder_nor_on_the_hub(tmp_path: Path, capsys: Any) -> None:
    destination = str(tmp_path / "out")
    assert run(["convert", str(tmp_path / "nowhere"), destination]) == 2
    assert "no such folder; name a folder or a Hugging Face Hub id" in capsys.readouterr().err
    for name in ("octo-bench-test/nowhere", "hf://octo-bench-test/nowhere"):
        assert run(["convert", name, destination]) == 2
        err = capsys.readouterr().err
        assert f"error: {name}: no such folder, and it cannot be fetched" in err
        assert err.count("\n") == 1
    assert not Path(destination).exists()


def test_what_is_there_already_is_not_touched(source: Path, capsys: Any) -> None:
    destination = source.parent / "converted"
    destination.mkdir()
    assert run(["convert", str(source), str(destination)]) == 0
    capsys.readouterr()
    before = sorted(destination.iterdir())
    for taken in (destination, source / CONFIG):
        assert run(["convert", str(source), str(taken)]) == 2
        assert f"{taken}: is there already" in capsys.readouterr().err
    assert sorted(destination.iterdir()) == before


def test_a_folder_that_cannot_be_made_is_named(source: Path, capsys: Any) -> None:
    inside_a_file = source / CONFIG / "converted"
    assert run(["convert", str(source), str(inside_a_file)]) == 2
    assert f"{inside_a_file}: cannot be made (Not a directory)" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(
    source: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "no space left to write it" in mistake(capsys, source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70_000) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


def places(table: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index of a JSON value."""
    inner = table.items() if isinstance(table, dict) else enumerate(table)
    found = []
    for key, value in inner:
        found.append((*prefix, key))
        if isinstance(value, dict | list):
            found += places(value, (*prefix, key))
    return found


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_spoiled_table_converts_or_is_refused_but_nothing_else(
    source: Path, data: st.DataObject
) -> None:
    file = data.draw(st.sampled_from([CONFIG, STATISTICS]))
    original = (FIXTURE / file).read_text()
    table = json.loads(original)
    inside = places(table["model"], ("model",)) if file == CONFIG else places(table)
    *parents, last = data.draw(st.sampled_from(inside))
    branch = table
    for parent in parents:
        branch = branch[parent]
    branch[last] = data.draw(JSON)
    (source / file).write_text(json.dumps(table))
    try:
        assert convert_parameters(read_released(source))
    except BadCheckpoint:
        pass
    finally:
        (source / file).write_text(original)
