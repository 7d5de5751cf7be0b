"""The seed architecture at its full size: builds, learns, predicts, and says what it misses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.synthetic import TINY_T5, tiny_config, toy_demonstrations, write_t5, write_tokenizer
from octo_bench.agents.inference import Inference
from octo_bench.agents.octo import OctoAgent
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.config import read_config
from octo_bench.checkpoints.folder import Policy
from octo_bench.cli import run
from octo_bench.demonstrations.normalisation import Affine, Statistics
from octo_bench.models.config import LanguageConfig
from octo_bench.models.octo import Octo
from octo_bench.training.finetune import FinetuneSettings, finetune
from octo_bench.training.pretrain import pretrain_on
from octo_bench.training.recipes import Data, Recipe, read_recipe
from octo_bench.training.settings import Optimisation

SEED = Path(__file__).parents[2] / "policies" / "octo-seed"
BATCH = 2


@pytest.fixture(scope="module", params=["diffusion", "categorical"])
def octo(request: pytest.FixtureRequest) -> Iterator[Octo]:
    """150 million random parameters, shared by the tests of a head."""
    torch.manual_seed(0)
    yield Octo(replace(read_config(SEED).model, head=request.param))


def counted(octo: Octo) -> tuple[int, int]:
    """Parameters with and without T5."""
    every = sum(p.numel() for p in octo.parameters())
    return every, every - sum(p.numel() for p in octo.language.t5.parameters())


def test_the_recipe_is_of_the_same_network() -> None:
    config, recipe = read_config(SEED), read_recipe(SEED / "recipe.toml")
    assert recipe.model == config.model
    assert recipe.execute == config.execute
    assert not any("Panda" in data.env for data in recipe.data)


def test_sizes_are_those_of_the_card(octo: Octo) -> None:
    card = (SEED / "README.md").read_text()
    every, without_t5 = counted(octo)
    assert f"| {octo.config.head} | {every:,} | {without_t5:,} |" in card
    t5, encoder = octo.language.t5.config, octo.vision_primary
    assert (t5.d_model, t5.num_layers, t5.num_heads, t5.d_ff, t5.d_kv) == (768, 12, 12, 3072, 64)
    assert len(encoder.stages) == 8
    assert len(octo.transformer.blocks) == 8
    assert octo.transformer.positions.shape == (32, 512)


def test_a_training_step_lowers_the_loss(octo: Octo) -> None:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (BATCH, 96, 96, 3), dtype=torch.uint8)
    proprio, actions = torch.randn(BATCH, 1, 10), torch.rand(BATCH, 4, 7) * 2 - 1
    ids, both = torch.randint(2, 32000, (BATCH, 5)), torch.arange(BATCH)

    def loss() -> torch.Tensor:
        primary, wrist, goals = octo.encode_images(images, images.flip(0), images.flip(1))
        texts = octo.language(ids, torch.ones_like(ids, dtype=torch.bool))
        features = octo.features(
            octo.task(texts, both, goals, both),
            primary.unsqueeze(1),
            wrist.unsqueeze(1),
            proprio,
            torch.ones(BATCH, 1, dtype=torch.bool),
        )
        mask = torch.ones_like(actions, dtype=torch.bool)
        generator = torch.Generator().manual_seed(0)
        return octo.loss(features[:, 0], actions, mask, draws=4, generator=generator)

    before = loss()
    before.backward()
    trained = {name: p for name, p in octo.named_parameters() if p.requires_grad}
    untouched = {name for name, p in trained.items() if p.grad is None or not p.grad.any()}
    # Both tasks are given, so the null embeddings are not used; keys have a bias without effect.
    assert {n for n in untouched if "k_proj" not in n} <= {"task.null_language", "task.null_goal"}
    assert all(p.grad is None for p in octo.language.t5.parameters())
    torch.optim.SGD(trained.values(), lr=1e-2).step()
    octo.zero_grad(set_to_none=True)
    with torch.no_grad():
        assert loss() < before


def test_it_predicts(octo: Octo, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    scaling = Affine(np.zeros(7, np.float32), np.ones(7, np.float32))
    proprio = Affine(np.zeros(10, np.float32), np.ones(10, np.float32))
    statistics = Statistics("bounds", proprio, {"default": scaling})
    config = replace(read_config(SEED), model=octo.config)
    agent = OctoAgent(Policy(tmp_path, config, statistics, octo.eval()), Inference(task="both"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, BATCH, 1, 96, 96, 3), dtype=np.uint8)
    observations = {
        "image_primary": images[0],
        "image_wrist": images[1],
        "proprio": rng.normal(size=(BATCH, 1, 10)).astype(np.float32),
        "timestep_pad_mask": np.ones((BATCH, 1), bool),
    }
    tasks = [TaskInput("lift the cube", images[0, 0, 0]), TaskInput("lift")]
    noise = rng.standard_normal((BATCH, *agent.noise_shape)).astype(np.float32)
    chunk = agent.act(observations, tasks, noise)
    assert chunk.shape == (BATCH, 4, 7)
    assert np.isfinite(chunk).all()
    assert np.abs(chunk).max() <= 1


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (("", ""), "timm/resnet18.tv_in1k"),
        (('"timm/resnet18.tv_in1k"', '""'), "google-t5/t5-base"),
    ],
)
def test_missing_weights_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    missing: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text((SEED / "recipe.toml").read_text().replace(*change))
    assert run(["pretrain", str(recipe), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the model.safetensors of '{missing}' is neither on this machine" in line
    assert f"`hf download {missing} model.safetensors` fetches it" in line
    assert not out.exists()


def test_a_policy_trained_from_t5_brings_its_tokenizer_along(tmp_path: Path) -> None:
    write_t5(tmp_path / "t5")
    language = LanguageConfig(pretrained=str(tmp_path / "t5"), **TINY_T5)
    optimisation = Optimisation(steps=2, batch_size=4, warmup=1, noise_draws=2)
    recipe = Recipe(
        data=(Data("octo_bench/Follow-Toy-v1", 4, 0),),
        model=tiny_config(language=language),
        optimisation=optimisation,
        execute=2,
    )
    start, tuned = tmp_path / "start", tmp_path / "tuned"
    pretrain_on(recipe, [toy_demonstrations()], start, recipe=tmp_path / "r.toml", progress=False)
    shutil.rmtree(tmp_path / "t5")
    settings = FinetuneSettings(mode="full", optimisation=optimisation)
    finetune(start, toy_demonstrations(seed=1), tuned, settings, progress=False)
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tuned))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "language.projection.weight" in moved
    assert not any(name.startswith("language.t5") for name in moved)
    assert (tuned / "tokenizer" / "tokenizer.json").is_file()
