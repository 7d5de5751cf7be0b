"""The action heads: schedules, sampling, bins, padding, and what they make of two modes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from helpers.synthetic import tiny_config
from octo_bench.demonstrations.normalisation import Kind, action_scaling
from octo_bench.models.categorical_head import CategoricalHead
from octo_bench.models.config import CategoricalConfig, DiffusionConfig, Schedule
from octo_bench.models.diffusion_head import DiffusionHead, cumulative_alphas
from octo_bench.models.diffusion_unet import GroupNorm1d
from octo_bench.models.octo import Octo

ALPHAS = {
    # diffusers 0.35.2, DDPMScheduler(10, beta_schedule="squaredcos_cap_v2" or "linear")
    "squared_cosine": """
        0x1.f1b624p-1 0x1.cc2330p-1 0x1.92e5f0p-1 0x1.4b8244p-1 0x1.f9b222p-2
        0x1.5cfd32p-2 0x1.9ffe26p-3 0x1.8135f8p-4 0x1.8ab804p-6 0x1.942fd6p-16""",
    "linear": """
        0x1.fff2e4p-1 0x1.fec400p-1 0x1.fc74b2p-1 0x1.f90840p-1 0x1.f483d6p-1
        0x1.eeee74p-1 0x1.e850dep-1 0x1.e0b582p-1 0x1.d82862p-1 0x1.ceb6f0p-1""",
}


def test_group_norm_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = GroupNorm1d(4, 16), nn.GroupNorm(4, 16)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 16, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def diffusion_head(**changes: object) -> DiffusionHead:
    torch.manual_seed(0)
    values = {"down_dims": (16, 32), "step_embedding": 16, "groups": 4, "condition": 24}
    return DiffusionHead(DiffusionConfig(**{**values, **changes}), 4, 7, 32).eval()


@pytest.mark.parametrize("schedule", ["squared_cosine", "linear"])
def test_schedules_are_those_of_diffusers(schedule: Schedule) -> None:
    expected = [float.fromhex(value) for value in ALPHAS[schedule].split()]
    assert cumulative_alphas(schedule, 10).tolist() == expected


def test_linear_schedule_leaves_signal_and_cosine_does_not() -> None:
    assert cumulative_alphas("linear", 10)[-1] == pytest.approx(0.90, abs=0.01)
    assert cumulative_alphas("squared_cosine", 10)[-1] < 1e-3


def predicted(model: DiffusionHead, features: Tensor, x: Tensor, step: int) -> tuple[Tensor, ...]:
    """The clean chunk that the network sees in `x`, clipped, and the noise that it leaves."""
    film = zip(model.unet.condition(features), model.unet.step_condition(10), strict=True)
    output = model.unet(x, [a + b[step] for a, b in film])
    left = float(model._cumulative[step])
    if model.config.prediction == "epsilon":
        output = (x - math.sqrt(1 - left) * output) / math.sqrt(left)
    clean = output.clamp(-1, 1)
    return clean, (x - math.sqrt(left) * clean) / math.sqrt(1 - left)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
@pytest.mark.parametrize(("count", "visited"), [(5, [9, 7, 5, 3, 1]), (3, [9, 6, 2])])
def test_ddim_is_that_of_song(prediction: str, count: int, visited: list[int]) -> None:
    """Song et al. 2021, equation 12 with sigma 0: to the clean chunk, and back to less noise."""
    model = diffusion_head(prediction=prediction)
    model.sample_in(count)
    assert model.timesteps() == visited
    assert model.noise_shape == (1, 4, 7)
    features, noise = torch.randn(2, 32), torch.randn(2, 1, 4, 7)
    x = noise[:, 0]
    for step, following in zip(visited, [*visited[1:], None], strict=True):
        clean, implied = predicted(model, features, x, step)
        left = 1.0 if following is None else float(model._cumulative[following])
        x = math.sqrt(left) * clean + math.sqrt(1 - left) * implied
    torch.testing.assert_close(model.sample(features, noise), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "sample"])
def test_ddpm_is_that_of_ho(prediction: str) -> None:
    """Ho et al. 2020, algorithm 2 with the smaller of the two variances (section 3.2)."""
    model = diffusion_head(prediction=prediction)
    features, noise = torch.randn(2, 32), torch.randn(2, *model.noise_shape)
    left = [1.0, *model._cumulative.tolist()]
    x = noise[:, 0]
    for step in reversed(range(10)):
        _, implied = predicted(model, features, x, step)
        alpha = left[step + 1] / left[step]
        x = (x - (1 - alpha) / math.sqrt(1 - left[step + 1]) * implied) / math.sqrt(alpha)
        if step:
            variance = (1 - left[step]) / (1 - left[step + 1]) * (1 - alpha)
            x = x + math.sqrt(variance) * noise[:, 10 - step]
    torch.testing.assert_close(model.sample(features, noise), x, atol=1e-4, rtol=1e-4)


def test_sampling_is_a_function_of_its_noise() -> None:
    model = diffusion_head()
    features, noise = torch.randn(2, 32), torch.randn(2, *model.noise_shape)
    assert noise.shape == (2, 10, 4, 7)
    first = model.sample(features, noise)
    assert first.shape == (2, 4, 7)
    assert torch.equal(model.sample(features, noise), first)
    assert not torch.allclose(model.sample(features, noise + 1), first)
    assert first.abs().max() <= 1


def test_chunk_must_be_divisible_by_the_levels() -> None:
    with pytest.raises(ValueError, match="halve the chunk"):
        diffusion_head(down_dims=(16, 16, 16, 16))


def test_more_sampling_steps_than_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="'sampling_steps' must lie between 1 and 'steps'"):
        diffusion_head().sample_in(11)


@pytest.mark.parametrize("kind", ["diffusion", "categorical"])
@pytest.mark.parametrize("padded", ["entries", "steps", "both"])
def test_padding_never_leaks_into_the_loss(kind: str, padded: str) -> None:
    octo = Octo(tiny_config(head=kind))
    features = torch.randn(3, 32, requires_grad=True)
    actions = (torch.rand(3, 4, 7) * 2 - 1).requires_grad_()
    mask = torch.ones(3, 4, 7, dtype=torch.bool)
    if padded != "steps":
        mask[..., 5:] = False
    if padded != "entries":
        mask[:2, 2:] = False

    def loss(of: Tensor) -> tuple[Tensor, list[Tensor]]:
        generator = torch.Generator().manual_seed(0)
        value = octo.loss(features, of, mask, draws=4, generator=generator)
        return value, torch.autograd.grad(value, [features, *octo.head.parameters()])

    value, gradients = loss(actions)
    for filling in (0.0, 1e3, torch.randn(3, 4, 7)):
        other, other_gradients = loss(actions.detach().where(mask, torch.as_tensor(filling)))
        assert torch.equal(other, value)
        assert all(map(torch.equal, other_gradients, gradients))
    if kind == "diffusion":  # bins have no gradient
        generator = torch.Generator().manual_seed(0)
        octo.loss(features, actions, mask, draws=4, generator=generator).backward()
        assert not actions.grad[~mask].any()
        assert actions.grad[mask].any()
    nothing = octo.loss(features, actions, torch.zeros_like(mask))
    assert nothing.item() == 0


def bins_of(count: int, bound: float) -> CategoricalHead:
    with torch.device("meta"):
        return CategoricalHead(CategoricalConfig(bins=count, action_range=bound), 1, 1, 1)


COUNTS = st.integers(2, 1024)
BOUNDS = st.floats(2**-7, 100, width=32)
ROUNDING = 1e-5
"""Of float32, over the range of actions: a value at a border may fall into either bin."""


@settings(deadline=None)
@given(COUNTS, BOUNDS)
def test_every_bin_is_the_bin_of_its_centre(count: int, bound: float) -> None:
    head, bins = bins_of(count, bound), torch.arange(count)
    assert torch.equal(head.bin_of(head.centre_of(bins)), bins)
    assert head.bin_of(torch.tensor([-bound, bound])).tolist() == [0, count - 1]
    outliers = torch.tensor([-2 * bound, 2 * bound, -1e30, 1e30])
    assert head.bin_of(outliers).tolist() == [0, count - 1] * 2


@settings(deadline=None)
@given(COUNTS, BOUNDS, st.integers(0, 2**31))
def test_decoding_is_within_half_a_bin_and_monotone(count: int, bound: float, seed: int) -> None:
    head, rng = bins_of(count, bound), np.random.default_rng(seed)
    borders = np.linspace(-bound, bound, count + 1)
    near = np.concatenate([np.nextafter(np.float32(borders), s * np.inf) for s in (-1, 1)])
    values = np.concatenate([rng.uniform(-bound, bound, 200), borders, near])
    actions = torch.from_numpy(np.sort(values).astype(np.float32))
    bins = head.bin_of(actions)
    assert (bins.diff() >= 0).all()
    assert (head.centre_of(bins) - actions).abs().max() <= bound * (1 / count + ROUNDING)


@settings(deadline=None)
@given(
    arrays(np.float32, (20, 7), elements=st.floats(-1, 1, width=32)),
    st.sampled_from(["bounds", "mean_std"]),
    COUNTS,
)
def test_bins_cover_what_the_statistics_make_of_actions(
    raw: np.ndarray, kind: Kind, count: int
) -> None:
    scaling = action_scaling(raw, kind, (6,))
    normalised = scaling.normalise(raw)
    reach = float(np.abs(normalised).max())
    if kind == "bounds":
        assert reach <= 1 + ROUNDING
    bound = max(reach, 1.0)
    head = bins_of(count, bound)
    decoded = head.centre_of(head.bin_of(torch.from_numpy(normalised))).numpy()
    # No action, the outermost included, is taken for another one.
    half = bound / count + ROUNDING * bound
    assert np.abs(decoded - normalised).max() <= half
    assert (np.abs(scaling.restore(decoded) - raw) <= half * scaling.scale + ROUNDING).all()


def test_standardised_actions_do_not_fit_the_range_of_scaled_ones() -> None:
    """Why training refuses an `action_range` that the data exceed."""
    raw = np.zeros((100, 7), np.float32)
    raw[0] = 1
    normalised = action_scaling(raw, "mean_std", (6,)).normalise(raw)
    head = bins_of(256, 1.0)
    decoded = head.centre_of(head.bin_of(torch.from_numpy(normalised))).numpy()
    assert np.abs(decoded - normalised).max() > 5


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


def trained_on_two_modes(kind: str, steps: int = 300, batch: int = 64) -> Tensor:
    """What a head samples that was shown chunks around 0.6 (7 of 10) and -0.6: (500, 4, 3)."""
    torch.manual_seed(0)
    config = tiny_config(action_size=3, head=kind)
    octo = Octo(replace(config, categorical=replace(config.categorical, decode="sample")))
    features, mask = torch.ones(batch, 32), torch.ones(batch, 4, 3, dtype=torch.bool)
    optimiser = torch.optim.AdamW(octo.head.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)
    for _ in range(steps):
        sign = torch.where(torch.rand(batch, 1, 1) < 0.7, 1.0, -1.0)
        actions = 0.6 * sign + 0.03 * torch.randn(batch, 4, 3)
        optimiser.zero_grad()
        octo.loss(features, actions, mask, draws=4).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return octo.sample(torch.ones(500, 32), torch.randn(500, *octo.head.noise_shape))


@pytest.mark.parametrize("kind", ["diffusion", "categorical"])
def test_both_heads_keep_two_modes(kind: str) -> None:
    sampled = trained_on_two_modes(kind)
    upper, lower = ((sampled - mode).abs() < 0.2 for mode in (0.6, -0.6))
    for entry in range(3):
        assert 0.55 < upper[..., entry].float().mean() < 0.85
        assert 0.15 < lower[..., entry].float().mean() < 0.45
    assert (sampled.abs() < 0.3).float().mean() < 0.03
    # The diffusion head draws a whole chunk from one mode. The categorical one, whose bins are
    # drawn apart from each other, keeps the modes of each entry only.
    whole = (upper.flatten(1).all(1) | lower.flatten(1).all(1)).float().mean()
    assert whole > 0.85 if kind == "diffusion" else whole < 0.2
