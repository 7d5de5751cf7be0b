"""Policy folders of both architectures: what is written is read, what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch

from helpers.synthetic import tiny_config
from octo_bench.checkpoints.config import find_policy, image_sizes, read_config
from octo_bench.checkpoints.folder import build_model, describe, read_policy, write_policy
from octo_bench.checkpoints.text import find_tokenizer
from octo_bench.cli import run
from octo_bench.demonstrations.normalisation import Affine, Statistics
from octo_bench.errors import BadCheckpoint, UnknownName
from octo_bench.models.octo import Octo
from octo_bench.models.octo_1_5.config import (
    DiffusionConfig,
    ImageTokenizerConfig,
    Octo15Config,
    ProprioTokenizerConfig,
    T5Config,
)

TINY_15 = Octo15Config(
    width=32,
    layers=1,
    heads=2,
    feed_forward=32,
    images=(ImageTokenizerConfig("primary", "image_primary", 32, (32, 32, 32, 32), 16),),
    proprio=ProprioTokenizerConfig((0, 1, 2)),
    language=T5Config(vocabulary=16, width=16, head_width=8, feed_forward=16, layers=1, heads=2),
    diffusion=DiffusionConfig(hidden=16, blocks=1),
)


def identity(size: int) -> Affine:
    return Affine(np.zeros(size, np.float32), np.ones(size, np.float32))


def statistics(proprio: int = 10, **sizes: int) -> Statistics:
    actions = {name: identity(size) for name, size in {"default": 7, **sizes}.items()}
    return Statistics("mean_std", identity(proprio), actions)


def written(folder: Path, config: Any, **options: Any) -> Path:
    torch.manual_seed(0)
    scaling = options.pop("statistics", statistics())
    write_policy(folder, build_model(config), 2, scaling, "# card\n", **options)
    return folder


def spoil(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("config", "architecture"), [(tiny_config(), "octo"), (TINY_15, "octo-1.5")]
)
def test_what_is_written_is_read(tmp_path: Path, config: Any, architecture: str) -> None:
    folder = written(tmp_path, config, actions="metric")
    policy = read_policy(folder)
    assert policy.config == read_config(folder)
    assert policy.config.architecture == architecture and policy.config.actions == "metric"
    assert policy.config.model == policy.model.config == config
    torch.manual_seed(0)
    expected = build_model(config).state_dict()
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_config_without_an_architecture_is_the_first(tmp_path: Path) -> None:
    folder = written(tmp_path, tiny_config())
    spoil(folder / "config.json", lambda t: (t.pop("architecture"), t.pop("actions")))
    policy = read_policy(folder)
    assert isinstance(policy.model, Octo)
    assert (policy.config.architecture, policy.config.actions) == ("octo", "environment")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.update(architecture="octo-2"), "'architecture' is 'octo-2'; use one of octo,"),
        (lambda t: t.update(architecture=["octo"]), "'architecture' is"),
        (lambda t: t.update(architecture="octo"), "unknown key 'model."),
        (lambda t: t.update(actions="inches"), "'actions' is 'inches'; use one of environment,"),
        (lambda t: t.update(model=3), "has no table 'model'"),
        (lambda t: t.pop("model"), "has no table 'model'"),
        (lambda t: t.pop("execute"), "the key 'execute' is missing"),
        (lambda t: t.update(execute=5), "'execute' = 5 is not between 1 and the chunk's length"),
        (lambda t: t.update(format=2), "has format 2, not 1"),
        (lambda t: t.update(colour=1), "unknown key 'colour'"),
        (lambda t: t["model"].update(heads=3), "'heads' = 3 must divide 'width' = 32"),
        (lambda t: t["model"].update(heads=0), "is not valid (integer"),
        (lambda t: t["model"]["diffusion"].update(hidden=0), "describes no network ("),
        (
            lambda t: t["model"]["images"][0].update(features=[33, 32, 32, 32]),
            "describes no network (",
        ),
        (lambda t: t["model"]["images"][0].update(size=33), "'size' = 33 is not a multiple of 16"),
        (lambda t: t["model"]["images"][0].update(sise=3), "unknown key 'model.images[0].sise'"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: Any, problem: str) -> None:
    folder = written(tmp_path, TINY_15)
    spoil(folder / "config.json", change)
    with pytest.raises(BadCheckpoint) as error:
        read_policy(folder)
    assert str(error.value).startswith(f"{folder / 'config.json'}: ")
    assert problem in str(error.value)


def test_a_folder_without_weights_is_a_network_to_train(tmp_path: Path) -> None:
    folder = written(tmp_path, TINY_15)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors: no such file"):
        read_policy(folder)
    (folder / "statistics.json").unlink()
    assert read_config(folder).model == TINY_15
    with pytest.raises(BadCheckpoint, match="has no weights; convert a released") as error:
        read_policy(folder)
    assert "octo-bench convert" in str(error.value)


def test_only_octo_1_5_knows_arms_with_fewer_action_entries(tmp_path: Path) -> None:
    mixed = statistics(small=5)
    policy = read_policy(written(tmp_path / "new", TINY_15, statistics=mixed))
    assert len(policy.statistics.actions_of("small").offset) == 5
    with pytest.raises(BadCheckpoint, match=r"'actions\.small' must hold 7 offsets"):
        read_policy(written(tmp_path / "old", tiny_config(), statistics=mixed))
    for size in (0, 8):
        folder = written(tmp_path / str(size), TINY_15, statistics=statistics(large=size))
        with pytest.raises(BadCheckpoint, match=r"'actions\.large' must hold up to 7 offsets"):
            read_policy(folder)


def test_proprioception_that_is_read_must_have_statistics(tmp_path: Path) -> None:
    folder = written(tmp_path, TINY_15, statistics=statistics(proprio=2))
    with pytest.raises(BadCheckpoint, match="'proprio' has 2 entries, the model reads more"):
        read_policy(folder)


def test_policies_are_listed_with_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("octo_bench.paths.policies_root", lambda: tmp_path)
    written(tmp_path / "new", TINY_15)
    seed = written(tmp_path / "seed", tiny_config(head="categorical"))
    (seed / "model.safetensors").unlink()
    assert run(["policies", "--json"]) == 0
    new, old = json.loads(capsys.readouterr().out)
    assert new["megabytes"] > 0
    del new["megabytes"]
    assert new == {
        "name": "new",
        "architecture": "octo-1.5",
        "head": "diffusion",
        "image_sizes": [32],
        "chunk": 4,
        "weights": True,
    }
    assert (old["architecture"], old["head"]) == ("octo", "categorical")
    assert (old["weights"], old["megabytes"]) == (False, 0)
    assert old["image_sizes"] == image_sizes(tiny_config())
    assert run(["policies"]) == 0
    assert "octo-1.5" in capsys.readouterr().out


def test_a_description_has_a_row_for_every_setting() -> None:
    rows = describe(Octo15Config())
    assert "| `images.1.image` | image_wrist |" in rows
    assert "| `language.heads` | 12 |" in rows


def test_what_is_not_on_the_hub_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownName, match="unknown policy 'octo-bench-test/nowhere'"):
        find_policy("octo-bench-test/nowhere")
    for name in ("octo-bench-test/nowhere", str(tmp_path), "not a name"):
        with pytest.raises(BadCheckpoint, match=r"put the tokenizer\.json of") as error:
            find_tokenizer(tmp_path, name)
        assert str(tmp_path / "tokenizer" / "tokenizer.json") in str(error.value)
    (tmp_path / "tokenizer.json").touch()
    assert find_tokenizer(tmp_path, str(tmp_path)) == tmp_path / "tokenizer.json"
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").touch()
    assert find_tokenizer(tmp_path, "any").parent == tmp_path / "tokenizer"
