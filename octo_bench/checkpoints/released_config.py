"""The network that the training configuration of an original Octo 1.5 checkpoint describes.

Modules are nested {module, name, args, kwargs}; keywords that have their default are left out.
Names and defaults are those of github.com/octo-models/octo at commit 241fb35. What Octo 1.5 does
not have is refused by name and not ignored, since it would change the actions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from octo_bench.models.octo_1_5.config import (
    ContinuousConfig,
    DiffusionConfig,
    DiscreteConfig,
    ImageTokenizerConfig,
    Octo15Config,
    ProprioTokenizerConfig,
    T5Config,
)

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of arrays by their path."""

T5 = "octo_transformer/task_tokenizers_language/hf_model"
_LARGEST = 2**16
_COMPONENTS = "octo.model.components"


class Unsupported(ValueError):
    """A key of the configuration, or an array, that Octo 1.5 does not have or that is wrong."""


@dataclass(frozen=True)
class _Only:
    value: Any


# A schema says of each keyword its type, if it must be there; else the default that it has when
# it is not, or the only value that can be read. Some that can be are not used, since they make no
# difference to a trained network.
_SPEC = {"module": str, "name": str, "args": _Only([]), "kwargs": dict}
_MODEL = {
    "observation_tokenizers": dict,
    "task_tokenizers": dict,
    "heads": dict,
    "readouts": dict,
    "transformer_kwargs": dict,
    "token_embedding_size": int,
    "max_horizon": int,
    "repeat_task_tokens": False,
    "use_correct_attention": bool,
}
_TRANSFORMER = {
    "num_layers": int,
    "mlp_dim": int,
    "num_attention_heads": int,
    "dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
    "add_position_embedding": _Only(False),
}
_IMAGE_TOKENIZER = {
    "encoder": dict,
    "use_token_learner": _Only(False),
    "num_tokens": 8,
    "conditioning_type": _Only("none"),
    "obs_stack_keys": list,
    "task_stack_keys": list,
    "task_film_keys": _Only([]),
    "proper_pad_mask": _Only(True),
}
_STEM = {
    "use_film": _Only(False),
    "patch_size": _Only(16),
    "kernel_sizes": _Only([3, 3, 3, 3]),
    "strides": _Only([2, 2, 2, 2]),
    "features": [32, 96, 192, 384],
    "padding": _Only([1, 1, 1, 1]),
    "num_features": 512,
    "img_norm_type": _Only("default"),
}
_LANGUAGE_TOKENIZER = {
    "encoder": str,
    "finetune_encoder": False,
    "proper_pad_mask": _Only(True),
}
_PROPRIO_TOKENIZER = {
    "n_bins": 256,
    "bin_type": "uniform",
    "low": 0.0,
    "high": 1.0,
    "obs_keys": list,
    "discretize": False,
    "proper_pad_mask": _Only(True),
}
_HEAD = {"readout_key": str, "use_map": False, "action_horizon": 1, "action_dim": 7}
_DIFFUSION = {
    **_HEAD,
    "max_action": 5.0,
    "loss_type": _Only("mse"),
    "time_dim": 32,
    "num_blocks": 3,
    "dropout_rate": 0.0,
    "hidden_dim": 256,
    "use_layer_norm": True,
    "diffusion_steps": 20,
    "n_diffusion_samples": 1,
}
_CONTINUOUS = {**_HEAD, "max_action": 5.0, "loss_type": "mse"}
_DISCRETE = {
    **_HEAD,
    "token_per": "action_dim_and_action_horizon",
    "vocab_size": 256,
    "normalization_type": "uniform",
}
_HEADS = {
    "DiffusionActionHead": _DIFFUSION,
    "ContinuousActionHead": _CONTINUOUS,
    "MSEActionHead": {**_CONTINUOUS, "use_map": True},
    "L1ActionHead": {**_CONTINUOUS, "use_map": True, "loss_type": "l1"},
    "DiscreteActionHead": _DISCRETE,
    "TokenPerDimActionHead": _DISCRETE,
}
_TEXT_TOKENIZER = {
    "tokenizer_name": str,
    "tokenizer_kwargs": {},
    "encode_with_model": _Only(False),
}
_SPACINGS = ("uniform", "normal")
_TOKEN_PER = {"": "all", "action_horizon": "step", "action_dim_and_action_horizon": "entry"}


def network_config(table: Mapping[str, Any], inputs: Shapes, parameters: Shapes) -> Octo15Config:
    """The sizes of the network.

    Args:
        table: config.json.
        inputs: of the example batch.
        parameters: T5's sizes follow from these, since the configuration only names it.

    Raises:
        ValueError: naming the key or the array that is wrong.
    """
    model = _take(table.get("model"), _MODEL, "model")
    if not model["use_correct_attention"]:
        raise Unsupported("'model.use_correct_attention' is not true")
    transformer = _take(model["transformer_kwargs"], _TRANSFORMER, "model.transformer_kwargs")
    images, proprio = _observation_tokenizers(model["observation_tokenizers"], inputs)
    return Octo15Config(
        width=model["token_embedding_size"],
        layers=transformer["num_layers"],
        heads=transformer["num_attention_heads"],
        feed_forward=transformer["mlp_dim"],
        dropout=transformer["dropout_rate"],
        window=_axes(inputs, "observation/timestep_pad_mask", 2)[1],
        max_window=model["max_horizon"],
        readouts=_take(model["readouts"], {"action": int}, "model.readouts")["action"],
        repeat_task_tokens=model["repeat_task_tokens"],
        images=images,
        proprio=proprio,
        language=_t5(model["task_tokenizers"], table.get("text_processor"), inputs, parameters),
        **_head(model["heads"]),
    )


def _observation_tokenizers(
    specs: Mapping[str, Any], inputs: Shapes
) -> tuple[tuple[ImageTokenizerConfig, ...], ProprioTokenizerConfig]:
    known = {"ImageTokenizer": _IMAGE_TOKENIZER, "LowdimObsTokenizer": _PROPRIO_TOKENIZER}
    images, proprio = [], ProprioTokenizerConfig()
    for name, spec in specs.items():
        where = f"model.observation_tokenizers.{name}"
        kind, kwargs = _spec(spec, where, f"{_COMPONENTS}.tokenizers", known)
        # As in the original, a tokenizer whose observation is not there has no part in the network.
        if kind == "ImageTokenizer":
            if _keys(kwargs["obs_stack_keys"], inputs, "observation", where):
                images.append(_image_tokenizer(name, kwargs, inputs, where))
        elif not _keys(kwargs["obs_keys"], inputs, "observation", where):
            continue
        elif name == "proprio":
            proprio = _proprio_tokenizer(kwargs, inputs, where)
        else:
            raise Unsupported(f"'{where}' is not called 'proprio'")
    return tuple(images), proprio


def _image_tokenizer(
    name: str, kwargs: Mapping[str, Any], inputs: Shapes, where: str
) -> ImageTokenizerConfig:
    image = _one_key(kwargs["obs_stack_keys"], inputs, ("observation",), f"{where}.obs_stack_keys")
    # A goal image that the task lacks is zeros of the observation's size in the original.
    parts = ("task", "observation")
    goal = _one_key(kwargs["task_stack_keys"], inputs, parts, f"{where}.task_stack_keys")
    if goal != image:
        raise Unsupported(f"'{where}' puts the goal {_short(goal)} beside {_short(image)}")
    encoders = {"SmallStem16": _STEM}
    _, stem = _spec(kwargs["encoder"], f"{where}.encoder", f"{_COMPONENTS}.vit_encoders", encoders)
    place = f"{where}.encoder.kwargs.features"
    features = tuple(_as_kind(each, int, place) for each in stem["features"])
    if len(features) != 4:
        raise Unsupported(f"'{place}' has {len(features)} entries, not 4")
    *_, height, width, channels = _axes(inputs, f"observation/{image}", 5)
    if height != width or channels != 3:
        raise Unsupported(
            f"'observation/{image}' is {height} x {width} x {channels}, not square RGB"
        )
    return ImageTokenizerConfig(name, image, height, features, stem["num_features"])


def _proprio_tokenizer(
    kwargs: Mapping[str, Any], inputs: Shapes, where: str
) -> ProprioTokenizerConfig:
    key = _one_key(kwargs["obs_keys"], inputs, ("observation",), f"{where}.kwargs.obs_keys")
    _one_of(key, ("proprio",), f"{where}.kwargs.obs_keys")
    return ProprioTokenizerConfig(
        entries=tuple(range(_axes(inputs, "observation/proprio", 3)[2])),
        bins=kwargs["n_bins"] if kwargs["discretize"] else 0,
        spacing=_one_of(kwargs["bin_type"], _SPACINGS, f"{where}.kwargs.bin_type"),
        low=kwargs["low"],
        high=kwargs["high"],
    )


def _t5(specs: Any, processor: Any, inputs: Shapes, parameters: Shapes) -> T5Config:
    where = "model.task_tokenizers"
    spec = _take(specs, {"language": dict}, where)["language"]
    known = {"LanguageTokenizer": _LANGUAGE_TOKENIZER}
    _spec(spec, f"{where}.language", f"{_COMPONENTS}.tokenizers", known)
    attention = f"{T5}/encoder/block/0/layer/0/SelfAttention"
    vocabulary, width = _axes(parameters, f"{T5}/shared/embedding", 2)
    buckets, heads = _axes(parameters, f"{attention}/relative_attention_bias/embedding", 2)
    joined = _axes(parameters, f"{attention}/q/kernel", 2)[1]
    if joined % heads:
        raise Unsupported(f"'{attention}/q/kernel' has {joined} columns for {heads} heads")
    inner = _axes(parameters, f"{T5}/encoder/block/0/layer/1/DenseReluDense/wi/kernel", 2)[1]
    blocks = {name.split("/")[5] for name in parameters if name.startswith(f"{T5}/encoder/block/")}
    return T5Config(
        vocabulary=vocabulary,
        width=width,
        head_width=joined // heads,
        feed_forward=inner,
        layers=len(blocks),
        heads=heads,
        buckets=buckets,
        tokens=_axes(inputs, "task/language_instruction/input_ids", 2)[1],
        tokenizer=_text_tokenizer(processor),
    )


def _text_tokenizer(processor: Any) -> str:
    """The Hub id or folder of the instruction's tokenizer."""
    if processor is None:
        return T5Config().tokenizer
    known = {"HFTokenizer": _TEXT_TOKENIZER}
    _, kwargs = _spec(processor, "text_processor", "octo.data.utils.text_processing", known)
    name = kwargs["tokenizer_name"]
    # Names without an owner are from the Hub's early days.
    return f"google-t5/{name}" if re.fullmatch(r"t5-\w+", name) else name


def _head(specs: Any) -> dict[str, Any]:
    """The part of the network's configuration that says what its head is."""
    where = "model.heads.action"
    spec = _take(specs, {"action": dict}, "model.heads")["action"]
    name, kwargs = _spec(spec, where, f"{_COMPONENTS}.action_heads", _HEADS)
    where = f"{where}.kwargs"
    _one_of(kwargs["readout_key"], ("readout_action",), f"{where}.readout_key")
    sizes = {"chunk": kwargs["action_horizon"], "action_size": kwargs["action_dim"]}
    if name == "DiffusionActionHead":
        diffusion = DiffusionConfig(
            hidden=kwargs["hidden_dim"],
            blocks=kwargs["num_blocks"],
            time=kwargs["time_dim"],
            layer_norm=kwargs["use_layer_norm"],
            dropout=kwargs["dropout_rate"],
            steps=kwargs["diffusion_steps"],
            sampling_steps=kwargs["diffusion_steps"],
            pool=kwargs["use_map"],
        )
        bound = kwargs["max_action"]
        return {**sizes, "head": "diffusion", "max_action": bound, "diffusion": diffusion}
    if name in ("DiscreteActionHead", "TokenPerDimActionHead"):
        token_per = _one_of(kwargs["token_per"], _TOKEN_PER, f"{where}.token_per")
        spacing = kwargs["normalization_type"]
        discrete = DiscreteConfig(
            bins=kwargs["vocab_size"],
            token_per=_TOKEN_PER[token_per],
            pool=kwargs["use_map"],
            spacing=_one_of(spacing, _SPACINGS, f"{where}.normalization_type"),
            # The original's head never tells its bins another range.
            low=0.0,
            high=1.0,
        )
        return {**sizes, "head": "discrete", "discrete": discrete}
    return {
        **sizes,
        "head": _one_of(kwargs["loss_type"], ("l1", "mse"), f"{where}.loss_type"),
        "max_action": kwargs["max_action"],
        "continuous": ContinuousConfig(pool=kwargs["use_map"]),
    }


def _spec(
    spec: Any, where: str, module: str, known: Mapping[str, Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """The class that a {module, name, args, kwargs} names, one of `known`, and its keywords."""
    values = _take(spec, _SPEC, where)
    name = values["name"]
    _one_of(values["module"], (module,), f"{where}.module")
    _one_of(name, known, f"{where}.name")
    return name, _take(values["kwargs"], known[name], f"{where}.kwargs")


def _take(table: Any, schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a table by a schema; `where` is the table's place, for messages."""
    if not isinstance(table, Mapping):
        raise Unsupported(f"'{where}' is not a table")
    for key in table:
        if key not in schema:
            raise Unsupported(f"unknown key '{where}.{_cut(key)}'")
    values = {}
    for key, wanted in schema.items():
        place = f"{where}.{key}"
        if key not in table:
            if isinstance(wanted, type):
                raise Unsupported(f"the key '{place}' is missing")
            values[key] = wanted.value if isinstance(wanted, _Only) else wanted
        elif isinstance(wanted, _Only):
            if table[key] != wanted.value:
                raise Unsupported(f"'{place}' is {_short(table[key])}, not {wanted.value!r}")
            values[key] = wanted.value
        else:
            kind = wanted if isinstance(wanted, type) else type(wanted)
            values[key] = _as_kind(table[key], kind, place)
    return values


def _as_kind(value: Any, kind: type, place: str) -> Any:
    if kind in (int, float):
        # The original's JSON has whole numbers written as floats.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and kind is float and abs(value) <= _LARGEST:
            return float(value)
        if number and kind is int and 1 <= value <= _LARGEST and value == int(value):
            return int(value)
        wanted = "a number" if kind is float else "a whole number"
        raise Unsupported(f"'{place}' is {_short(value)}, not {wanted} up to {_LARGEST}")
    if not isinstance(value, kind):
        wanted = {bool: "true or false", str: "a text", list: "a list", dict: "a table"}[kind]
        raise Unsupported(f"'{place}' is {_short(value)}, not {wanted}")
    return value


def _one_of(value: str, known: Iterable[str], place: str) -> Any:
    if value not in known:
        raise Unsupported(f"'{place}' is {_short(value)}, not {' or '.join(map(repr, known))}")
    return value


def _one_key(patterns: list[Any], inputs: Shapes, parts: tuple[str, ...], where: str) -> str:
    """The key that patterns choose from parts of the example batch together."""
    chosen = sorted({key for part in parts for key in _keys(patterns, inputs, part, where)})
    if len(chosen) != 1:
        found = _cut(", ".join(chosen)) or "nothing"
        raise Unsupported(f"'{where}' chooses {found} of the example batch, not one key")
    return chosen[0]


def _keys(patterns: list[Any], inputs: Shapes, part: str, where: str) -> list[str]:
    """The keys of a part of the example batch that patterns choose.

    They are regular expressions, matched where a key begins. Those in use are a name, whole or
    followed by ".*"; others are refused instead of run.
    """
    names = [str(pattern).removesuffix(".*") for pattern in patterns]
    for name in names:
        if not re.fullmatch(r"\w+", name):
            raise Unsupported(f"'{where}' has {_short(name)}, which is not a name")
    keys = {path.split("/")[1] for path in inputs if path.startswith(f"{part}/")}
    return [key for key in keys if any(key.startswith(name) for name in names)]


def _axes(shapes: Shapes, name: str, count: int) -> tuple[int, ...]:
    """The shape of an array that must be there, with `count` axes."""
    if name not in shapes:
        raise Unsupported(f"the array '{name}' is missing")
    shape = shapes[name]
    if len(shape) != count or max(shape) > _LARGEST:
        raise Unsupported(f"'{name}' has the shape {shape}, not {count} axes")
    return shape


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
