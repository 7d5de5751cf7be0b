"""Octo 1.5 against the original's outputs on a miniature checkpoint, and its own contracts.

The reference is described in tests/fixtures/octo_1_5_tiny/README.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.octo_1_5_reference import CASES, FIXTURE, REFERENCE, inputs_of, reference
from octo_bench.checkpoints.conversion import convert
from octo_bench.checkpoints.folder import read_policy
from octo_bench.models.octo_1_5.config import OCTO_BASE, OCTO_SMALL, Octo15Config
from octo_bench.models.octo_1_5.diffusion_head import cosine_betas
from octo_bench.models.octo_1_5.network import Inputs, Octo15

DIFFUSION_STEPS = (0, 7, 19)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Octo15:
    folder = tmp_path_factory.mktemp("policies") / "tiny"
    convert(str(FIXTURE), folder)
    return read_policy(folder).model


def largest_difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.detach().numpy() - theirs).max())


def noise_of(case: str) -> torch.Tensor:
    """The case's explicit noise, (B * W, 21, 28)."""
    first = torch.from_numpy(REFERENCE[f"{case}/sampling/x_T"]).unsqueeze(0)
    rest = torch.from_numpy(REFERENCE[f"{case}/sampling/z"])
    return torch.cat([first, rest]).permute(1, 2, 0, 3).flatten(0, 1)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_tokens_and_readouts_are_the_original_s(model: Octo15, case: str) -> None:
    inputs = inputs_of(model, case)
    assert largest_difference(inputs.language, reference(case, "t5_last_hidden_state")) < 1e-5
    for name, images in inputs.images.items():
        patches = model.images[name].patches(images, inputs.goals.get(name))
        assert largest_difference(patches, reference(case, f"stem_{name}")) < 1e-4
    sequence = model.sequence(inputs)
    np.testing.assert_array_equal(sequence.visible(), reference(case, "attention_mask"))

    mixed = model.transformer(sequence.tokens, sequence.visible())
    task, rest = mixed[:, :16], mixed[:, 16:].unflatten(1, (inputs.timestep_mask.shape[1], -1))
    assert largest_difference(task, reference(case, "task")) < 1e-4
    assert largest_difference(rest[:, :, :16], reference(case, "obs_primary")) < 1e-4
    assert largest_difference(rest[:, :, -1:], reference(case, "readout_action")) < 1e-4
    if case == "mixed":
        assert largest_difference(rest[:, :, 16:20], reference(case, "obs_wrist")) < 1e-4
        assert largest_difference(rest[:, :, 20:36], reference(case, "obs_task_language")) < 1e-4


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_readouts_alone_are_the_same(model: Octo15, case: str) -> None:
    inputs = inputs_of(model, case)
    wanted = reference(case, "readout_action")
    assert largest_difference(model.readouts(inputs), wanted) < 1e-4
    assert largest_difference(model.readouts(inputs, last_only=True), wanted[:, -1:]) < 1e-4


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_predicted_noise_is_the_original_s(model: Octo15, case: str) -> None:
    embedding = model.head.pooled(model.readouts(inputs_of(model, case)).flatten(0, 1))
    noisy = torch.from_numpy(reference(case, "noisy_actions")).flatten(0, 1)
    for step, wanted in zip(DIFFUSION_STEPS, reference(case, "epsilon"), strict=True):
        steps = torch.full((len(noisy),), step)
        predicted = model.head.epsilon(embedding, noisy, steps).view(wanted.shape)
        assert largest_difference(predicted, wanted) < 1e-4


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_chain_of_given_noise_is_the_original_s(model: Octo15, case: str) -> None:
    readouts = model.readouts(inputs_of(model, case))
    batch, window = readouts.shape[:2]
    chain = model.head.chain(readouts.flatten(0, 1), noise_of(case))
    states = torch.stack(chain).unflatten(1, (batch, window))
    assert largest_difference(states, REFERENCE[f"{case}/sampling/x"]) < 1e-3
    last = noise_of(case).unflatten(0, (batch, window))[:, -1]
    actions = model.head.sample(readouts[:, -1], last)
    assert largest_difference(actions, REFERENCE[f"{case}/sampling/actions_normalized"]) < 1e-4


@torch.no_grad()
def test_entries_that_the_arm_lacks_are_noise_as_in_the_original(model: Octo15) -> None:
    readouts = model.readouts(inputs_of(model, "both"))
    chain = model.head.chain(readouts.flatten(0, 1), noise_of("both"), 5)
    states = torch.stack(chain).unflatten(1, readouts.shape[:2])
    assert largest_difference(states, REFERENCE["both/sampling_dim5/x"]) < 1e-3


def test_schedule_is_the_original_s(model: Octo15) -> None:
    assert (
        largest_difference(torch.from_numpy(cosine_betas(20)), REFERENCE["schedule/betas"]) < 1e-6
    )
    assert largest_difference(model.head.signal, REFERENCE["schedule/alpha_hats"]) < 1e-6


def loss_of(model: Octo15) -> torch.Tensor:
    inputs = inputs_of(model, "mixed")
    actions = torch.from_numpy(REFERENCE["loss/action"]).flatten(0, 1)
    mask = torch.from_numpy(REFERENCE["loss/action_pad_mask"])
    mask = (mask & inputs.timestep_mask[:, :, None, None]).flatten(0, 1)
    steps = torch.from_numpy(REFERENCE["loss/time"])[0].reshape(-1, 1).long()
    noise = torch.from_numpy(REFERENCE["loss/noise"])[0].flatten(0, 1).unsqueeze(1)
    readouts = model.readouts(inputs).flatten(0, 1)
    return model.head.loss_at(readouts, actions, mask, steps, noise)


def test_loss_and_its_gradients_are_the_original_s(model: Octo15) -> None:
    model.zero_grad()
    loss = loss_of(model)
    assert loss.item() == pytest.approx(float(REFERENCE["loss/out/loss"]), rel=1e-5)
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(float(REFERENCE["loss/out/grad_global_norm"]), rel=1e-4)
    assert all(p.grad is None for p in model.language.t5.parameters())
    block = model.transformer.blocks[0]
    theirs = "loss/grad/octo_transformer/"
    attention = "BlockTransformer_0/Transformer_0/encoderblock_0/MultiHeadDotProductAttention_0"
    compared = {
        "readout_action_pos_embedding": model.readout.grad,
        "obs_primary_projection/bias": model.images["primary"].projection.bias.grad,
        "observation_tokenizers_primary/SmallStem16_0/StdConv_0/kernel": model.images["primary"]
        .stem[0]
        .conv.weight.grad.permute(2, 3, 1, 0),
        f"{attention}/query/kernel": block.attention.q_proj.weight.grad.T.unflatten(1, (4, 16)),
    }
    for name, ours in compared.items():
        wanted = REFERENCE[theirs + name]
        assert largest_difference(ours, wanted) < 1e-3 * np.abs(wanted).max(), name
    model.zero_grad()


@pytest.mark.parametrize(
    ("config", "without_t5", "head"),
    [(OCTO_SMALL, 27_042_060, 1_703_564), (OCTO_BASE, 92_830_092, 1_801_868)],
)
def test_parameters_are_as_many_as_the_original_has(
    config: Octo15Config, without_t5: int, head: int
) -> None:
    with torch.device("meta"):
        model = Octo15(config)
    everything = sum(p.numel() for p in model.parameters())
    t5 = sum(p.numel() for p in model.language.t5.parameters())
    assert t5 == 109_628_544
    assert everything - t5 == without_t5
    assert sum(p.numel() for p in model.head.parameters()) == head


def with_head(model: Octo15, **changes: object) -> Octo15:
    """The fixture's network with another configuration, random weights."""
    torch.manual_seed(0)
    return Octo15(replace(model.config, **changes)).eval()


@pytest.mark.parametrize("head", ["diffusion", "l1", "mse", "discrete"])
def test_swapping_the_head_is_one_line(model: Octo15, head: str) -> None:
    other = with_head(model, head=head)
    readouts = other.readouts(inputs_of(other, "mixed"))[:, -1]
    noise = torch.randn(2, *other.head.noise_shape)
    actions = other.head.sample(readouts, noise)
    assert actions.shape == (2, 4, 7)
    assert actions.abs().max() <= model.config.max_action
    mask = torch.ones(2, 4, 7, dtype=torch.bool)
    loss = other.loss(readouts, torch.randn(2, 4, 7), mask)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in other.head.parameters())


@pytest.mark.parametrize("head", ["diffusion", "l1", "mse", "discrete"])
def test_padded_actions_never_reach_the_loss(model: Octo15, head: str) -> None:
    other = with_head(model, head=head)
    readouts = torch.randn(3, 1, model.config.width)
    actions = torch.randn(3, 4, 7)
    mask = torch.ones(3, 4, 7, dtype=torch.bool)
    mask[0, 2:], mask[1, :, 5:], mask[2] = False, False, False
    losses = [
        other.loss(readouts, values, mask, generator=torch.Generator().manual_seed(0))
        for values in (actions, torch.where(mask, actions, 100.0))
    ]
    assert losses[0] == losses[1]
    # Whatever the share of padding, it is the mean of what is left.
    assert losses[0] > 0


def test_fewer_sampling_steps_start_from_the_same_noise(model: Octo15) -> None:
    with torch.no_grad():
        head = with_head(model).head
        head.load_state_dict(model.head.state_dict())
        readouts = model.readouts(inputs_of(model, "language"))[:, -1]
        head.sample_in(5)
        assert head.noise_shape == (1, 28)
        assert head.timesteps() == [19, 15, 11, 7, 3]
        noise = torch.randn(2, *head.noise_shape)
        few = head.sample(readouts, noise)
        head.sample_in(19)
        many = head.sample(readouts, noise)
        assert few.abs().max() <= 5
        # The fixture's head was fitted, so that the chain contracts to about the same chunk.
        assert (few - many).abs().mean() < 0.5


def test_missing_parts_have_no_influence(model: Octo15) -> None:
    """A masked camera, instruction or time step: what is in it does not matter."""
    inputs = inputs_of(model, "mixed")
    absent = replace(
        inputs,
        image_masks={"wrist": torch.zeros(2, 2, dtype=torch.bool)},
        language_mask=torch.zeros(2, dtype=torch.bool),
        timestep_mask=torch.tensor([[False, True], [False, True]]),
    )
    garbage = replace(
        absent,
        images={
            "primary": torch.cat(
                [255 - inputs.images["primary"][:, :1], inputs.images["primary"][:, 1:]], 1
            ),
            "wrist": 255 - inputs.images["wrist"],
        },
        language=torch.randn_like(inputs.language),
    )
    with torch.no_grad():
        assert torch.equal(model.readouts(absent)[:, -1], model.readouts(garbage)[:, -1])


def test_proprioception_is_read_in_bins_or_as_it_is(model: Octo15) -> None:
    for bins in (0, 16):
        sizes = replace(model.config.proprio, entries=(0, 1, 9), bins=bins)
        other = with_head(model, proprio=sizes)
        inputs = inputs_of(other, "language")
        first, second = (
            other.readouts(replace(inputs, proprio=values))
            for values in (torch.zeros(2, 2, 3), torch.ones(2, 2, 3))
        )
        assert not torch.allclose(first, second)
        masked = replace(inputs, proprio_mask=torch.zeros(2, 2, dtype=torch.bool))
        assert torch.equal(
            other.readouts(replace(masked, proprio=torch.zeros(2, 2, 3))),
            other.readouts(replace(masked, proprio=torch.ones(2, 2, 3))),
        )


def test_a_camera_that_is_not_there_has_no_tokens(model: Octo15) -> None:
    inputs = inputs_of(model, "language")
    primary_only = Inputs(inputs.timestep_mask, {"primary": inputs.images["primary"]})
    assert model.sequence(primary_only).tokens.shape[1] == 2 * (16 + 1)


def test_reference_is_complete() -> None:
    assert Path(FIXTURE).is_dir()
    assert set(CASES) == {name.split("/")[0] for name in REFERENCE} - {"loss", "schedule"}
