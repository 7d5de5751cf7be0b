"""Released Octo 1.5 checkpoints become policy folders that compute the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers.flax_files import write_arrays
from helpers.octo_1_5_files import (
    BATCH,
    CONFIG,
    HEAD,
    OUTPUTS,
    PARAMETERS,
    STATISTICS,
    WIDTH,
    edit_arrays,
    edit_json,
)
from helpers.octo_1_5_reference import CASES, FIXTURE, REFERENCE, inputs_of, reference
from octo_bench.checkpoints.arrays import read_arrays
from octo_bench.checkpoints.conversion import convert
from octo_bench.checkpoints.folder import Policy, read_policy
from octo_bench.checkpoints.mapping import parameters
from octo_bench.checkpoints.released import read_released
from octo_bench.checkpoints.released_config import T5, network_config
from octo_bench.cli import run
from octo_bench.errors import BadCheckpoint
from octo_bench.models.octo_1_5.config import (
    OCTO_BASE,
    OCTO_SMALL,
    Octo15Config,
    ProprioTokenizerConfig,
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "source"))


def converted(source: Path, **options: Any) -> Policy:
    destination = source.parent / "converted"
    convert(str(source), destination, **options)
    return read_policy(destination)


def test_the_command_converts_and_says_what(tmp_path: Path, capsys: Any) -> None:
    destination = tmp_path / "new" / "tiny"
    assert run(["convert", str(FIXTURE), str(destination)]) == 0
    out = capsys.readouterr().out
    assert "diffusion head, step 300000" in out
    assert "262,380 parameters, 241,612 without T5" in out
    assert "made_up_arm_5, made_up_arm_7; default: made_up_arm_7" in out
    assert f"Instructions need {destination}/tokenizer/tokenizer.json" in out
    policy = read_policy(destination)
    assert policy.config.architecture == "octo-1.5" and policy.config.actions == "metric"
    assert policy.config.execute == policy.config.model.chunk == 4
    card = (destination / "README.md").read_text()
    assert all(said in card for said in ("241,612", "step 300000", "`made_up_arm_5`", "t5-base"))
    assert [path.name for path in destination.parent.iterdir()] == ["tiny"]


def test_every_parameter_is_written_once(source: Path) -> None:
    policy = converted(source)
    with safe_open(policy.folder / "model.safetensors", framework="pt") as weights:
        names = set(weights.keys())
    assert len(names) == len(read_arrays(FIXTURE / PARAMETERS)) == 126
    assert "language.t5.shared.weight" in names
    assert "language.t5.encoder.embed_tokens.weight" not in names


def test_the_converted_network_computes_what_the_original_did(source: Path) -> None:
    model = converted(source).model
    with torch.inference_mode():
        for case in CASES:
            readouts = model.readouts(inputs_of(model, case)).numpy()
            np.testing.assert_allclose(readouts, reference(case, "readout_action"), atol=1e-4)


@pytest.mark.parametrize("kind", ["normal", "bounds"])
def test_actions_are_restored_as_the_original_does(source: Path, kind: str) -> None:
    for index in (0, 1):
        table = json.loads((source / CONFIG).read_text())
        listed = table["dataset_kwargs"]["dataset_kwargs_list"]
        listed[index]["action_proprio_normalization_type"] = kind
        (source / CONFIG).write_text(json.dumps(table))
    policy = converted(source)
    normalised = REFERENCE["language/sampling/actions_normalized"]
    wanted = REFERENCE[f"language/sampling/actions{'_bounds' if kind == 'bounds' else ''}"]
    restored = policy.statistics.actions["made_up_arm_7"].restore(normalised)
    np.testing.assert_allclose(restored, wanted, atol=1e-5)
    assert policy.statistics.kind == ("bounds" if kind == "bounds" else "mean_std")
    gripper = policy.statistics.actions["made_up_arm_5"]
    assert len(gripper.offset) == 5 and (gripper.offset[4], gripper.scale[4]) == (0, 1)


def test_the_default_dataset(source: Path) -> None:
    named = read_policy_default(source, dataset="made_up_arm_5")
    assert len(named.offset) == 5
    statistics = json.loads((source / STATISTICS).read_text())
    statistics["bridge_dataset"] = statistics["made_up_arm_5"]
    (source / STATISTICS).write_text(json.dumps(statistics))
    assert len(read_policy_default(source).offset) == 5
    assert len(read_policy_default(source, dataset="made_up_arm_7").offset) == 7


def read_policy_default(source: Path, **options: Any) -> Any:
    policy = converted(source, **options)
    shutil.rmtree(policy.folder)
    return policy.statistics.actions["default"]


def test_statistics_of_a_fine_tune_come_without_a_name(source: Path) -> None:
    table = json.loads((source / STATISTICS).read_text())["made_up_arm_7"]
    del table["action"]["mask"]
    (source / STATISTICS).write_text(json.dumps(table))
    edit_json(source / CONFIG, "dataset_kwargs", {"name": "my_arm"})
    actions = converted(source).statistics.actions
    assert actions.keys() == {"my_arm", "default"}
    np.testing.assert_array_equal(actions["my_arm"].scale, np.float32(table["action"]["std"]))


def test_a_step_can_be_named(source: Path) -> None:
    shutil.copytree(source / "300000", source / "9000")
    assert read_released(source).step == 300000
    assert read_released(source, 9000).step == 9000


def test_the_tokenizer_comes_along_when_it_is_there(source: Path) -> None:
    (source / "tokenizer").mkdir()
    (source / "tokenizer" / "tokenizer.json").write_text("{}")
    policy = converted(source)
    assert (policy.folder / "tokenizer" / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("config", [OCTO_SMALL, OCTO_BASE])
def test_the_configurations_of_octo_small_and_base(config: Octo15Config) -> None:
    table = json.loads((FIXTURE / CONFIG).read_text())
    model = table["model"]
    model["token_embedding_size"] = config.width
    sizes = {"num_layers": 12, "num_attention_heads": config.heads, "mlp_dim": config.feed_forward}
    model["transformer_kwargs"].update(sizes)
    for tokenizer in model["observation_tokenizers"].values():
        tokenizer["kwargs"]["encoder"]["kwargs"] = {}
    del model["heads"]["action"]["kwargs"]["hidden_dim"]
    inputs = {
        "observation/timestep_pad_mask": (1, 2),
        "observation/image_primary": (1, 2, 256, 256, 3),
        "observation/image_wrist": (1, 2, 128, 128, 3),
        "task/image_primary": (1, 256, 256, 3),
        "task/image_wrist": (1, 128, 128, 3),
        "task/language_instruction/input_ids": (1, 16),
    }
    block = f"{T5}/encoder/block"
    attention = f"{block}/0/layer/0/SelfAttention"
    shapes = {
        f"{T5}/shared/embedding": (32128, 768),
        f"{attention}/relative_attention_bias/embedding": (32, 12),
        f"{attention}/q/kernel": (768, 768),
        **{f"{block}/{i}/layer/1/DenseReluDense/wi/kernel": (768, 3072) for i in range(12)},
    }
    assert network_config(table, inputs, shapes) == config


# Other heads and inputs than the fixture's: its parameters, with those of the head made up.

POOL = {
    "probe": (1, 1, WIDTH),
    "MultiHeadDotProductAttention_0/query/kernel": (WIDTH, 8, 8),
    "MultiHeadDotProductAttention_0/query/bias": (8, 8),
    "MultiHeadDotProductAttention_0/key/kernel": (WIDTH, 8, 8),
    "MultiHeadDotProductAttention_0/key/bias": (8, 8),
    "MultiHeadDotProductAttention_0/value/kernel": (WIDTH, 8, 8),
    "MultiHeadDotProductAttention_0/value/bias": (8, 8),
    "MultiHeadDotProductAttention_0/out/kernel": (8, 8, WIDTH),
    "MultiHeadDotProductAttention_0/out/bias": (WIDTH,),
    "LayerNorm_0/scale": (WIDTH,),
    "LayerNorm_0/bias": (WIDTH,),
    "MlpBlock_0/Dense_0/kernel": (WIDTH, 4 * WIDTH),
    "MlpBlock_0/Dense_0/bias": (4 * WIDTH,),
    "MlpBlock_0/Dense_1/kernel": (4 * WIDTH, WIDTH),
    "MlpBlock_0/Dense_1/bias": (WIDTH,),
}
Arrays = dict[str, np.ndarray]


def made_up(shapes: dict[str, tuple[int, ...]], prefix: str) -> Arrays:
    rng = np.random.default_rng(1)
    return {
        f"{prefix}/{name}": (0.2 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def with_head(source: Path, name: str, kwargs: dict[str, Any], own: Arrays) -> Policy:
    edit_json(source / CONFIG, f"{HEAD}.name", name)
    sizes = {"readout_key": "readout_action", "action_horizon": 4.0, "action_dim": 7}
    edit_json(source / CONFIG, f"{HEAD}.kwargs", {**sizes, **kwargs})
    rest = read_arrays(source / PARAMETERS)
    rest = {k: v for k, v in rest.items() if not k.startswith("heads_action/")}
    write_arrays(source / PARAMETERS, {**rest, **own})
    return converted(source)


def pooled(tokens: np.ndarray, arrays: Arrays) -> np.ndarray:
    """What the original's attention pooling (`MAPHead`) makes of tokens (N, n, width)."""
    of = {name: arrays[f"heads_action/map_head/{name}"] for name in POOL}
    attention = "MultiHeadDotProductAttention_0"

    def project(x: np.ndarray, part: str) -> np.ndarray:
        kernel = of[f"{attention}/{part}/kernel"]
        return np.einsum("nld,dhk->nlhk", x, kernel) + of[f"{attention}/{part}/bias"]

    probe = np.broadcast_to(of["probe"], (len(tokens), 1, WIDTH))
    query, key, value = project(probe, "query"), project(tokens, "key"), project(tokens, "value")
    logits = np.einsum("nqhk,nlhk->nhql", query, key) / np.sqrt(8)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mixed = np.einsum("nhql,nlhk->nqhk", shares, value)
    out = np.einsum("nqhk,hkd->nqd", mixed, of[f"{attention}/out/kernel"])
    out = out + of[f"{attention}/out/bias"]
    centred = out - out.mean(-1, keepdims=True)
    normed = centred / np.sqrt(out.var(-1, keepdims=True) + 1e-6)
    normed = normed * of["LayerNorm_0/scale"] + of["LayerNorm_0/bias"]
    hidden = normed @ of["MlpBlock_0/Dense_0/kernel"] + of["MlpBlock_0/Dense_0/bias"]
    hidden = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    more = hidden @ of["MlpBlock_0/Dense_1/kernel"] + of["MlpBlock_0/Dense_1/bias"]
    return (out + more)[:, 0]


@pytest.mark.parametrize(
    ("name", "head", "kwargs"),
    [
        ("L1ActionHead", "l1", {}),
        ("MSEActionHead", "mse", {"max_action": 2}),
        ("ContinuousActionHead", "mse", {"use_map": True}),
        ("L1ActionHead", "l1", {"use_map": False}),
        ("ContinuousActionHead", "l1", {"loss_type": "l1"}),
    ],
)
def test_regression_heads(source: Path, name: str, head: str, kwargs: dict[str, Any]) -> None:
    pool = kwargs.get("use_map", name != "ContinuousActionHead")
    own = made_up({"kernel": (WIDTH, OUTPUTS), "bias": (OUTPUTS,)}, "heads_action/mean_proj")
    if pool:
        own |= made_up(POOL, "heads_action/map_head")
    policy = with_head(source, name, kwargs, own)
    config = policy.config.model
    bound = kwargs.get("max_action", 5)
    assert (config.head, config.continuous.pool, config.max_action) == (head, pool, bound)
    tokens = np.random.default_rng(2).standard_normal((3, 1, WIDTH)).astype(np.float32)
    embedding = pooled(tokens, own) if pool else tokens.mean(1)
    mean = embedding @ own["heads_action/mean_proj/kernel"] + own["heads_action/mean_proj/bias"]
    with torch.inference_mode():
        actions = policy.model.head.sample(torch.from_numpy(tokens), torch.zeros(3))
    expected = bound * np.tanh(mean / bound).reshape(3, 4, 7)
    np.testing.assert_allclose(actions.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kwargs", "tokens", "outputs"),
    [
        ("DiscreteActionHead", {"use_map": True}, 28, 256),
        ("TokenPerDimActionHead", {"use_map": True, "vocab_size": 16}, 28, 16),
        ("DiscreteActionHead", {"use_map": True, "token_per": "action_horizon"}, 4, 7 * 256),
        ("DiscreteActionHead", {"token_per": "", "normalization_type": "normal"}, 1, 28 * 256),
    ],
)
def test_discrete_heads(
    source: Path, name: str, kwargs: dict[str, Any], tokens: int, outputs: int
) -> None:
    own = made_up({"kernel": (WIDTH, outputs), "bias": (outputs,)}, "heads_action/vocab_proj")
    if kwargs.get("use_map"):
        own |= made_up({**POOL, "probe": (1, tokens, WIDTH)}, "heads_action/map_head")
    policy = with_head(source, name, kwargs, own)
    config = policy.config.model
    assert config.head == "discrete" and config.discrete.bins == kwargs.get("vocab_size", 256)
    assert (config.discrete.low, config.discrete.high) == (0, 1)
    assert config.discrete.spacing == kwargs.get("normalization_type", "uniform")
    logits = policy.model.head.logits.weight.detach().numpy()
    np.testing.assert_array_equal(logits, own["heads_action/vocab_proj/kernel"].T)


def test_a_diffusion_head_that_pools_and_has_no_layer_norm(source: Path) -> None:
    own = {
        name: array
        for name, array in read_arrays(source / PARAMETERS).items()
        if name.startswith("heads_action") and "LayerNorm" not in name
    }
    own |= made_up(POOL, "heads_action/map_head")
    kwargs = {"use_map": True, "use_layer_norm": False, "hidden_dim": 32, "diffusion_steps": 10}
    config = with_head(source, "DiffusionActionHead", kwargs, own).config.model.diffusion
    assert config.pool and not config.layer_norm
    assert config.steps == config.sampling_steps == 10


@pytest.mark.parametrize(
    ("kwargs", "rows", "expected"),
    [
        # As the original's example of fine-tuning to a new arm has it: bins that are not used.
        ({"n_bins": 256, "bin_type": "normal", "low": -2.0, "high": 2.0}, 1, 0),
        ({"n_bins": 32, "bin_type": "uniform", "low": -2, "high": 2, "discretize": True}, 32, 32),
    ],
)
def test_proprioception(source: Path, kwargs: dict[str, Any], rows: int, expected: int) -> None:
    spec = {
        "module": "octo.model.components.tokenizers",
        "name": "LowdimObsTokenizer",
        "args": [],
        "kwargs": {"obs_keys": ["proprio"], **kwargs},
    }
    edit_json(source / CONFIG, "model.observation_tokenizers.proprio", spec)
    edit_arrays(source / BATCH, **{"observation/proprio": np.zeros((1, 2, 8), np.float32)})
    shapes = {
        "obs_proprio_projection/kernel": (rows, WIDTH),
        "obs_proprio_projection/bias": (WIDTH,),
        "obs_proprio_pos_embedding": (1, 10, 8, WIDTH),
    }
    edit_arrays(source / PARAMETERS, **made_up(shapes, "octo_transformer"))
    policy = converted(source)
    assert policy.config.model.proprio == ProprioTokenizerConfig(
        entries=tuple(range(8)), bins=expected, spacing=kwargs["bin_type"], low=-2.0, high=2.0
    )
    assert len(policy.statistics.proprio.offset) == 8
    with pytest.raises(BadCheckpoint, match="'made_up_arm_5' has 6 entries of proprio, not 8"):
        convert(str(source), source.parent / "other", dataset="made_up_arm_5")


def test_the_mapping_names_every_parameter_once() -> None:
    config = read_released(FIXTURE).config
    mapped = list(parameters(config))
    assert len(mapped) == len({each.original for each in mapped}) == 126
    assert len(mapped) == len({each.name for each in mapped})
