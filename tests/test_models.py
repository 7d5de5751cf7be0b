"""The networks: shapes, sizes of the seed architecture, masks, schedules, sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from synthetic import SIZE, tiny_config
from torch import Tensor, nn
from torchvision.models import resnet18

from octo_bench.models.categorical_head import CategoricalConfig, CategoricalHead
from octo_bench.models.diffusion_head import DiffusionConfig, DiffusionHead
from octo_bench.models.diffusion_unet import GroupNorm1d
from octo_bench.models.language import LanguageConfig, byte_tokens
from octo_bench.models.octo import Octo, OctoConfig
from octo_bench.models.transformer import TransformerConfig
from octo_bench.models.vision import SpatialSoftmax, StridedPointwise, VisionConfig, VisionEncoder

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
    config = replace(OctoConfig(), language=LanguageConfig(pretrained=""))
    with torch.device("meta"):
        model = Octo(config)
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


def test_group_norm_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = GroupNorm1d(4, 16), nn.GroupNorm(4, 16)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 16, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def head(**changes: object) -> DiffusionHead:
    torch.manual_seed(0)
    values = {"down_dims": (16, 32), "step_embedding": 16, "groups": 4, "condition": 24}
    return DiffusionHead(DiffusionConfig(**{**values, **changes}), 4, 7, 32).eval()


def test_linear_schedule_leaves_signal_and_cosine_does_not() -> None:
    assert head(schedule="linear").alphas_cumulative[-1] == pytest.approx(0.90, abs=0.01)
    assert head().alphas_cumulative[-1] < 1e-3


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_ddim_is_that_of_diffusers(prediction: str) -> None:
    model = head(sampler="ddim", sampling_steps=5, prediction=prediction)
    reference = DDIMScheduler(
        10,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
        timestep_spacing="trailing",
    )
    reference.set_timesteps(5)
    assert model.timesteps() == reference.timesteps.tolist()
    features, noise = torch.randn(2, 32), torch.randn(2, *model.noise_shape)
    film = model.unet.condition(features)
    x = noise[:, 0]
    for step in reference.timesteps.tolist():
        of_step = [s[step] for s in model.unet.step_condition(10)]
        predicted = model.unet(x, [a + b for a, b in zip(film, of_step, strict=True)])
        x = reference.step(predicted, step, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(model.sample(features, noise), x, atol=1e-4, rtol=1e-4)


def test_ddpm_is_that_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = head()
    reference = DDPMScheduler(10, beta_schedule="squaredcos_cap_v2")
    features, noise = torch.randn(2, 32), torch.randn(2, *model.noise_shape)
    film = model.unet.condition(features)
    draws = iter(noise.unbind(1))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(draws)
    )
    x = next(draws)
    for step in reversed(range(10)):
        of_step = [s[step] for s in model.unet.step_condition(10)]
        predicted = model.unet(x, [a + b for a, b in zip(film, of_step, strict=True)])
        x = reference.step(predicted, step, x).prev_sample
    torch.testing.assert_close(model.sample(features, noise), x, atol=1e-4, rtol=1e-4)


def test_sampling_is_a_function_of_its_noise() -> None:
    model = head()
    features, noise = torch.randn(2, 32), torch.randn(2, *model.noise_shape)
    assert noise.shape == (2, 10, 4, 7)
    first = model.sample(features, noise)
    assert first.shape == (2, 4, 7)
    assert torch.equal(model.sample(features, noise), first)
    assert not torch.allclose(model.sample(features, noise + 1), first)
    assert first.abs().max() <= 1


def test_diffusion_loss_ignores_masked_entries() -> None:
    model = head()
    features, actions = torch.randn(3, 32), torch.rand(3, 4, 7) * 2 - 1
    mask = torch.ones(3, 4, 7, dtype=torch.bool)
    mask[:, 2:] = False

    def loss(of: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return model.loss(features, of, mask, draws=4, generator=generator)

    # Neighbours in the chunk are seen through the convolutions, so a whole row is masked here.
    mask[0] = False
    changed = actions.clone()
    changed[0] = 0
    assert torch.equal(loss(actions), loss(changed))
    assert model.loss(features, actions, torch.zeros_like(mask)).item() == 0


def test_chunk_must_be_divisible_by_the_levels() -> None:
    with pytest.raises(ValueError, match="halve the chunk"):
        head(down_dims=(16, 16, 16, 16))


def test_bins_cover_the_range_evenly() -> None:
    model = CategoricalHead(CategoricalConfig(), 4, 7, 32)
    actions = torch.linspace(-1, 1, 1001)
    bins = model.bin_of(actions)
    assert bins.min() == 0
    assert bins.max() == 255
    assert (model.centre_of(bins) - actions).abs().max() <= 1 / 256 + 1e-6
    assert model.bin_of(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_categorical_sampling_follows_the_softmax() -> None:
    config = CategoricalConfig(bins=3, decode="sample")
    model = CategoricalHead(config, 1, 1, 1)
    probabilities = torch.tensor([0.2, 0.5, 0.3])
    with torch.no_grad():
        model.logits.weight.zero_()
        model.logits.bias.copy_(probabilities.log())
    noise = torch.randn(20_000, *model.noise_shape, generator=torch.Generator().manual_seed(0))
    sampled = model.bin_of(model.sample(torch.zeros(20_000, 1), noise)).flatten()
    shares = torch.bincount(sampled, minlength=3) / len(sampled)
    np.testing.assert_allclose(shares, probabilities, atol=0.02)


@pytest.mark.parametrize("kind", ["diffusion", "categorical"])
def test_heads_share_one_interface(kind: str) -> None:
    octo = Octo(tiny_config(head=kind))
    features = torch.randn(2, 32, requires_grad=True)
    mask = torch.ones(2, 4, 7, dtype=torch.bool)
    octo.loss(features, torch.zeros(2, 4, 7), mask, draws=2).backward()
    assert features.grad is not None
    sampled = octo.sample(features, torch.randn(2, *octo.head.noise_shape))
    assert sampled.shape == (2, 4, 7)
