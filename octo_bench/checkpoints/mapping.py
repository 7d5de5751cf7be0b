"""Where each parameter of the original Octo 1.5 goes in our network, and how its axes turn.

Flax keeps dense kernels as (in, out), convolutions as (height, width, in, out) and attention
kernels as (width, heads, head width); PyTorch keeps (out, in), (out, in, height, width) and one
matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from octo_bench.checkpoints.released_config import T5
from octo_bench.models.octo_1_5.attention_pool import HEADS
from octo_bench.models.octo_1_5.config import Octo15Config

Shape = tuple[int, ...]
_TRANSFORMER = "octo_transformer"
_HEAD = "heads_action"
_STEM = "SmallStem16_0"
_ATTENTION = "MultiHeadDotProductAttention_0"


@dataclass(frozen=True)
class Layout:
    """How a parameter's axes turn: from the original's array to ours, and our shape to its."""

    convert: Callable[[np.ndarray], np.ndarray]
    original_shape: Callable[[Shape], Shape]


@dataclass(frozen=True)
class Parameter:
    """One parameter: its path in the original's tree, and its name in our network."""

    original: str
    name: str
    layout: Layout


SAME = Layout(lambda array: array, lambda shape: shape)
MATRIX = Layout(lambda array: array.T, lambda shape: shape[::-1])
CONVOLUTION = Layout(
    lambda array: array.transpose(3, 2, 0, 1),
    lambda shape: (*shape[2:], shape[1], shape[0]),
)


def _to_heads(heads: int) -> Layout:
    """A kernel from the width to heads: (width, heads, head width) to (out, in)."""
    return Layout(
        lambda array: array.reshape(len(array), -1).T,
        lambda shape: (shape[1], heads, shape[0] // heads),
    )


def _bias_of_heads(heads: int) -> Layout:
    return Layout(lambda array: array.reshape(-1), lambda shape: (heads, shape[0] // heads))


def _from_heads(heads: int) -> Layout:
    """A kernel from heads back to the width: (heads, head width, width) to (out, in)."""
    return Layout(
        lambda array: array.reshape(-1, array.shape[-1]).T,
        lambda shape: (heads, shape[1] // heads, shape[0]),
    )


def parameters(config: Octo15Config) -> Iterator[Parameter]:
    """Every parameter of the network, each once."""
    for image in config.images:
        yield from _image_tokenizer(image.name, len(image.features))
    if config.proprio.entries:
        yield from _dense(f"{_TRANSFORMER}/obs_proprio_projection", "proprio.projection")
        yield Parameter(f"{_TRANSFORMER}/obs_proprio_pos_embedding", "proprio.positions", SAME)
    yield from _dense(f"{_TRANSFORMER}/task_language_projection", "language.projection")
    yield Parameter(f"{_TRANSFORMER}/task_language_pos_embedding", "language.positions", SAME)
    yield Parameter(f"{_TRANSFORMER}/readout_action_pos_embedding", "readout", SAME)
    yield from _t5(config.language.layers)
    yield from _transformer(config.layers, config.heads)
    match config.head:
        case "diffusion":
            yield from _diffusion_head(config)
        case "l1" | "mse":
            yield from _pool() if config.continuous.pool else ()
            yield from _dense(f"{_HEAD}/mean_proj", "head.mean")
        case "discrete":
            yield from _pool() if config.discrete.pool else ()
            yield from _dense(f"{_HEAD}/vocab_proj", "head.logits")


def _dense(original: str, name: str) -> Iterator[Parameter]:
    yield Parameter(f"{original}/kernel", f"{name}.weight", MATRIX)
    yield Parameter(f"{original}/bias", f"{name}.bias", SAME)


def _convolution(original: str, name: str) -> Iterator[Parameter]:
    yield Parameter(f"{original}/kernel", f"{name}.weight", CONVOLUTION)
    yield Parameter(f"{original}/bias", f"{name}.bias", SAME)


def _norm(original: str, name: str) -> Iterator[Parameter]:
    yield Parameter(f"{original}/scale", f"{name}.weight", SAME)
    yield Parameter(f"{original}/bias", f"{name}.bias", SAME)


def _attention(original: str, name: str, heads: int) -> Iterator[Parameter]:
    for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        yield Parameter(f"{original}/{theirs}/kernel", f"{name}.{ours}.weight", _to_heads(heads))
        yield Parameter(f"{original}/{theirs}/bias", f"{name}.{ours}.bias", _bias_of_heads(heads))
    yield Parameter(f"{original}/out/kernel", f"{name}.out_proj.weight", _from_heads(heads))
    yield Parameter(f"{original}/out/bias", f"{name}.out_proj.bias", SAME)


def _feed_forward(original: str, name: str) -> Iterator[Parameter]:
    yield from _dense(f"{original}/Dense_0", f"{name}.0")
    yield from _dense(f"{original}/Dense_1", f"{name}.2")


def _image_tokenizer(name: str, layers: int) -> Iterator[Parameter]:
    theirs, ours = f"{_TRANSFORMER}/observation_tokenizers_{name}/{_STEM}", f"images.{name}"
    for layer in range(layers):
        yield from _convolution(f"{theirs}/StdConv_{layer}", f"{ours}.stem.{layer}.conv")
        yield from _norm(f"{theirs}/GroupNorm_{layer}", f"{ours}.stem.{layer}.norm")
    yield from _convolution(f"{theirs}/embedding", f"{ours}.embedding")
    yield from _dense(f"{_TRANSFORMER}/obs_{name}_projection", f"{ours}.projection")
    yield Parameter(f"{_TRANSFORMER}/obs_{name}_pos_embedding", f"{ours}.positions", SAME)


def _t5(layers: int) -> Iterator[Parameter]:
    ours = "language.t5"
    yield Parameter(f"{T5}/shared/embedding", f"{ours}.shared.weight", SAME)
    for layer in range(layers):
        block = f"encoder/block/{layer}/layer"
        matrices = [f"{block}/0/SelfAttention/{each}" for each in "qkvo"]
        matrices += [f"{block}/1/DenseReluDense/{each}" for each in ("wi", "wo")]
        for matrix in matrices:
            name = f"{ours}.{matrix.replace('/', '.')}.weight"
            yield Parameter(f"{T5}/{matrix}/kernel", name, MATRIX)
        for part in (0, 1):
            norm = f"{block}/{part}/layer_norm/weight"
            yield Parameter(f"{T5}/{norm}", f"{ours}.{norm.replace('/', '.')}", SAME)
    bias = "encoder/block/0/layer/0/SelfAttention/relative_attention_bias"
    name = f"{ours}.{bias.replace('/', '.')}.weight"
    yield Parameter(f"{T5}/{bias}/embedding", name, SAME)
    yield Parameter(
        f"{T5}/encoder/final_layer_norm/weight", f"{ours}.encoder.final_layer_norm.weight", SAME
    )


def _transformer(layers: int, heads: int) -> Iterator[Parameter]:
    theirs = f"{_TRANSFORMER}/BlockTransformer_0/Transformer_0"
    for layer in range(layers):
        block, name = f"{theirs}/encoderblock_{layer}", f"transformer.blocks.{layer}"
        yield from _norm(f"{block}/LayerNorm_0", f"{name}.norm_attention")
        yield from _attention(f"{block}/{_ATTENTION}", f"{name}.attention", heads)
        yield from _norm(f"{block}/LayerNorm_1", f"{name}.norm_feed_forward")
        yield from _feed_forward(f"{block}/MlpBlock_0", f"{name}.feed_forward")
    yield from _norm(f"{theirs}/encoder_norm", "transformer.norm")


def _pool() -> Iterator[Parameter]:
    theirs, ours = f"{_HEAD}/map_head", "head.pool"
    yield Parameter(f"{theirs}/probe", f"{ours}.probe", SAME)
    yield from _attention(f"{theirs}/{_ATTENTION}", f"{ours}.attention", HEADS)
    yield from _norm(f"{theirs}/LayerNorm_0", f"{ours}.norm")
    yield from _feed_forward(f"{theirs}/MlpBlock_0", f"{ours}.feed_forward")


def _diffusion_head(config: Octo15Config) -> Iterator[Parameter]:
    yield from _pool() if config.diffusion.pool else ()
    theirs = f"{_HEAD}/diffusion_model"
    yield Parameter(f"{theirs}/time_preprocess/kernel", "head.frequencies", SAME)
    yield from _feed_forward(f"{theirs}/cond_encoder", "head.time")
    network = f"{theirs}/reverse_network"
    yield from _dense(f"{network}/Dense_0", "head.input")
    for block in range(config.diffusion.blocks):
        theirs, ours = f"{network}/MLPResNetBlock_{block}", f"head.blocks.{block}"
        if config.diffusion.layer_norm:
            yield from _norm(f"{theirs}/LayerNorm_0", f"{ours}.norm")
        yield from _dense(f"{theirs}/Dense_0", f"{ours}.expand")
        yield from _dense(f"{theirs}/Dense_1", f"{ours}.contract")
    yield from _dense(f"{network}/Dense_1", "head.output")
