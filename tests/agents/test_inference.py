"""Options of inference, from their description in records."""

from __future__ import annotations

import pytest

from octo_bench.agents.inference import DEFAULT, Inference, described
from octo_bench.errors import BadInference


@pytest.mark.parametrize(
    "inference",
    [
        DEFAULT,
        Inference(ensemble=True, task="none"),
        Inference(execute=2, diffusion_steps=5, precision="bfloat16", compiled=True, task="goal"),
    ],
)
def test_a_description_gives_the_options_again(inference: Inference) -> None:
    assert described(inference.description) == inference


@pytest.mark.parametrize(
    "description",
    ["speed=2", "execute", "ensemble=yes", "execute=two", "execute=0", "execute=2,", "task=sing"],
)
def test_what_no_options_give_is_refused(description: str) -> None:
    with pytest.raises(BadInference):
        described(description)
