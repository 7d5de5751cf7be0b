"""The networks: shapes, sizes of the seed architecture, masks, schedules, sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize

from helpers.synthetic import SIZE, TINY_T5, tiny_config, write_t5
from octo_bench.checkpoints.text import TextTokenizer
from octo_bench.errors import MissingWeights
from octo_bench.models.config import LanguageConfig, OctoConfig, TransformerConfig, VisionConfig
from octo_bench.models.language import LanguageEncoder, byte_tokens
from octo_bench.models.octo import Octo
from octo_bench.models.pretrained import UnavailableError
from octo_bench.models.vision import SpatialSoftmax, StridedPointwise, VisionEncoder
from octo_bench.training.pretrain import initial_model

NONE = torch.full((3,), -1)
EVERY = torch.zeros(3, dtype=torch.long)


@pytest.fixture
def octo() -> Octo:
    torch.manual_seed(0)
    return Octo(tiny_config(window=2)).eval()


def inputs(batch: int = 3, window: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "primary": torch.randn(batch, window, 32),
        "wrist": torch.randn(batch, window, 32),
        "proprio": torch.randn(batch, window, 3),
        "timestep_mask": torch.ones(batch, window, dtype=torch.bool),
    }


def test_default_is_the_seed_architecture() -> None:
    with torch.device("meta"):
        model = Octo(OctoConfig())
    assert len(model.transformer.blocks) == 8
    assert model.transformer.positions.shape == (32, 512)
    assert model.transformer.blocks[0].attention.heads == 8
    assert model.head.unet.middle[0].conv1.weight.shape[0] == 256
    expected = sum(p.numel() for p in resnet18().parameters()) - (512 * 1000 + 1000)
    encoder = sum(p.numel() for p in model.vision_primary.parameters()) - (512 * 512 + 512)
    assert encoder == expected


@pytest.mark.parametrize("pooling", ["average", "spatial_softmax", "flatten"])
@pytest.mark.parametrize("norm", ["group", "batch_frozen", "none"])
def test_vision_encoder_ends_at_model_width(pooling: str, norm: str) -> None:
    config = VisionConfig((1, 2), (8, 16), (1, 2), pooling=pooling, norm=norm, groups=4)
    encoder = VisionEncoder(config, SIZE, 40)
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    embedded = encoder(images)
    assert embedded.shape == (2, 40)
    torch.testing.assert_close(encoder(images.float() / 127.5 - 1), embedded)


@pytest.mark.parametrize("as_folder", [True, False])
def test_imagenet_weights_land_where_they_belong(tmp_path: Path, as_folder: bool) -> None:
    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    for name, tensor in theirs.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            tensor.uniform_(0.5, 1.5) if tensor.is_floating_point() else tensor.fill_(7)
    file = tmp_path / "model.safetensors"
    save_file(theirs.state_dict(), file)
    source = str(tmp_path if as_folder else file)
    config = VisionConfig(norm="batch_frozen", pretrained=source)
    ours = VisionEncoder(config, 64, 512, load_pretrained=True)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    standardised = normalize(
        pixels.permute(0, 3, 1, 2) / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    theirs.fc = nn.Identity()
    nn.init.eye_(ours.projection.weight)
    nn.init.zeros_(ours.projection.bias)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), theirs(standardised), atol=1e-4, rtol=1e-4)


def test_imagenet_weights_need_their_norm() -> None:
    with pytest.raises(ValueError, match="batch_frozen"):
        VisionConfig(pretrained="timm/resnet18.tv_in1k")


def test_t5_is_loaded_and_frozen(tmp_path: Path) -> None:
    theirs = write_t5(tmp_path)
    ours = LanguageEncoder(
        LanguageConfig(pretrained=str(tmp_path), **TINY_T5), 8, load_pretrained=True
    )
    assert not any(p.requires_grad for p in ours.t5.parameters())
    ours.tokenise = TextTokenizer(tmp_path / "tokenizer.json", 5)
    with torch.inference_mode():
        states = theirs.encoder(torch.tensor([[8, 5, 9, 1]])).last_hidden_state
        embedded = ours.encode(["lift", "lift the cube"])
        torch.testing.assert_close(embedded[1:], ours.projection(states.mean(1)))


def test_a_frozen_t5_reads_each_text_once(tmp_path: Path) -> None:
    write_t5(tmp_path)
    config = LanguageConfig(pretrained=str(tmp_path), **TINY_T5)
    read = []

    def tokenise(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        read.extend(texts)
        return byte_tokens(texts, 1)

    for trainable in (False, True):
        ours = LanguageEncoder(replace(config, trainable=trainable), 8, load_pretrained=False)
        ours.tokenise = tokenise
        for _ in range(2):
            ours.encode(["lift", "push"]).sum().backward()
        assert ours.projection.weight.grad.any()
        assert any(p.grad is not None for p in ours.t5.parameters()) == trainable
    assert read == ["lift", "push"] + ["lift", "push"] * 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors; put it there"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json; put it there"),
        (lambda f: (f / "model.safetensors").write_bytes(b"cut"), "are no safetensors file"),
        (lambda f: save_file({"a": torch.ones(1)}, f / "model.safetensors"), "'shared.weight'"),
    ],
)
def test_what_a_pretrained_t5_lacks_is_named(
    tmp_path: Path, change: Callable[[Path], object], problem: str
) -> None:
    write_t5(tmp_path)
    change(tmp_path)
    config = tiny_config(language=LanguageConfig(pretrained=str(tmp_path), **TINY_T5))
    with pytest.raises(MissingWeights) as error:
        initial_model(config, 0)
    assert problem in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_sizes_that_are_not_those_of_the_weights_are_named(tmp_path: Path) -> None:
    write_t5(tmp_path)
    config = LanguageConfig(pretrained=str(tmp_path), **{**TINY_T5, "feed_forward": 64})
    with pytest.raises(UnavailableError, match=r"wi.* shape \(32, 16\), not \(64, 16\)"):
        LanguageEncoder(config, 8, load_pretrained=True)


def test_a_pretrained_t5_needs_nothing_to_be_built() -> None:
    config = LanguageConfig(pretrained="nobody/nothing", **TINY_T5)
    assert LanguageEncoder(config, 8, load_pretrained=False).t5.config.vocab_size == 11


def test_strided_pointwise_is_the_convolution_it_stands_for() -> None:
    ours, theirs = StridedPointwise(3, 5, 2), nn.Conv2d(3, 5, 1, 2, bias=False)
    theirs.load_state_dict(ours.state_dict())
    for size in (8, 9):
        maps = torch.randn(2, 3, size, size)
        torch.testing.assert_close(ours(maps), theirs(maps))


def test_stages_must_agree() -> None:
    with pytest.raises(ValueError, match="one entry per stage"):
        VisionConfig(blocks=(1, 1))


def test_spatial_softmax_finds_a_peak() -> None:
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 1, 4] = 50
    x, y = SpatialSoftmax()(maps)[0].tolist()
    assert x == pytest.approx(1, abs=1e-4)
    assert y == pytest.approx(-0.5, abs=1e-4)


def test_byte_tokens_are_those_of_byt5() -> None:
    ids, mask = byte_tokens(["ab", "é"], 16)
    assert ids.tolist() == [[100, 101, 1], [198, 172, 1]]
    assert mask.all()
    ids, mask = byte_tokens(["a", "long text"], 4)
    assert ids.tolist() == [[100, 1, 0, 0], [111, 114, 113, 1]]
    assert mask.tolist() == [[True, True, False, False], [True] * 4]


def test_instruction_embedding_ignores_padding(octo: Octo) -> None:
    alone = octo.encode_instructions(["lift"])
    padded = octo.encode_instructions(["lift", "a much longer instruction"])
    assert alone.shape == (1, 32)
    torch.testing.assert_close(alone[0], padded[0])
    assert not torch.allclose(padded[0], padded[1])


def test_every_task_branch_is_heard(octo: Octo) -> None:
    given, goal = torch.randn(2, 32), torch.randn(1, 32)
    cases = [
        octo.task(given, EVERY, None, NONE),
        octo.task(None, NONE, goal, EVERY),
        octo.task(given, EVERY, goal, EVERY),
        octo.task(None, NONE, None, NONE),
    ]
    features = [octo.features(task, **inputs()) for task in cases]
    for one in range(4):
        assert features[one].shape == (3, 2, 32)
        for other in range(one):
            assert not torch.allclose(features[one], features[other])


def test_missing_task_rows_take_the_null_embedding(octo: Octo) -> None:
    given = torch.randn(2, 32)
    task = octo.task(given, torch.tensor([1, -1, 0]), None, NONE)
    torch.testing.assert_close(task[0, 0], given[1])
    torch.testing.assert_close(task[1, 0], octo.task.null_language[0])
    torch.testing.assert_close(task[:, 1], octo.task.null_goal.expand(3, -1))


@pytest.mark.parametrize("missing", ["primary", "wrist", "proprio"])
def test_masked_input_has_no_effect(octo: Octo, missing: str) -> None:
    task = octo.task(None, NONE, None, NONE)
    given = inputs()
    masks = {f"{missing}_mask": torch.zeros(3, 2, dtype=torch.bool)}
    before = octo.features(task, **given, **masks)
    unmasked = octo.features(task, **given)
    given[missing] = -given[missing]
    torch.testing.assert_close(octo.features(task, **given, **masks), before)
    assert not torch.allclose(octo.features(task, **given), unmasked)


def test_padded_history_has_no_effect(octo: Octo) -> None:
    task = octo.task(None, NONE, None, NONE)
    given = inputs()
    given["timestep_mask"] = torch.tensor([[False, True]]).expand(3, 2)
    before = octo.features(task, **given)[:, 1]
    given["primary"] = given["primary"].clone()
    given["primary"][:, 0] *= -1
    torch.testing.assert_close(octo.features(task, **given)[:, 1], before)


def test_a_time_step_does_not_see_the_next(octo: Octo) -> None:
    task = octo.task(None, NONE, None, NONE)
    given = inputs()
    before = octo.features(task, **given)
    given["wrist"] = given["wrist"].clone()
    given["wrist"][:, 1] *= -1
    after = octo.features(task, **given)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_window_must_fit_the_context() -> None:
    with pytest.raises(ValueError, match="10 tokens"):
        tiny_config(window=2, transformer=TransformerConfig(layers=1, heads=2, context=8))


@pytest.mark.parametrize("shared", [True, False])
def test_goals_go_through_the_primary_encoder(shared: bool) -> None:
    octo = Octo(tiny_config(shared_encoder=shared)).eval()
    images = torch.randint(0, 256, (3, SIZE, SIZE, 3), dtype=torch.uint8)
    primary, wrist, goals = octo.encode_images(images, images.flip(0), images[:2])
    torch.testing.assert_close(goals, primary[:2])
    assert torch.allclose(wrist.flip(0), primary) == shared
