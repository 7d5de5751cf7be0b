"""A toy task in the shape of real demonstrations: a bright square is followed by the arm.

The action's first two entries point from the arm to the square, which only the images show.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import T5Config as T5Sizes
from transformers import T5ForConditionalGeneration

from octo_bench.checkpoints.config import Actions
from octo_bench.checkpoints.folder import write_policy
from octo_bench.definitions.environments import PROPRIO_SIZE_PER_ARM
from octo_bench.demonstrations.dataset import Demonstrations, Episode
from octo_bench.demonstrations.normalisation import Statistics
from octo_bench.demonstrations.windows import statistics_of
from octo_bench.models.config import (
    CategoricalConfig,
    DiffusionConfig,
    LanguageConfig,
    OctoConfig,
    TransformerConfig,
    VisionConfig,
)
from octo_bench.models.octo_1_5.config import DiffusionConfig as Octo15DiffusionConfig
from octo_bench.models.octo_1_5.config import (
    DiscreteConfig,
    ImageTokenizerConfig,
    Octo15Config,
    T5Config,
)
from octo_bench.models.octo_1_5.network import Octo15

SIZE = 24


def tiny_config(**changes: object) -> OctoConfig:
    """A network of a few thousand parameters for images of `SIZE` pixels."""
    values: dict[str, object] = {
        "width": 32,
        "window": 1,
        "image_size": SIZE,
        "proprio": (0, 1, 9),
        "vision": VisionConfig(
            blocks=(1, 1),
            widths=(8, 16),
            strides=(1, 2),
            stem_kernel=3,
            stem_stride=2,
            stem_maxpool=False,
            groups=4,
            pooling="flatten",
        ),
        "language": LanguageConfig(pretrained="", layers=1, width=16, heads=2, feed_forward=32),
        "transformer": TransformerConfig(layers=2, heads=2, feed_forward=64),
        "diffusion": DiffusionConfig(
            down_dims=(16, 16), blocks=1, step_embedding=16, groups=4, condition=32
        ),
        "categorical": CategoricalConfig(bins=32),
    }
    return OctoConfig(**{**values, **changes})


def toy_demonstrations(
    episodes: int = 4,
    length: int = 10,
    *,
    seed: int = 0,
    embodiment: str = "Toy",
    task: str = "Follow",
    instruction: str = "go to the square",
    paraphrases: tuple[str, ...] = ("follow the square", "to the square"),
) -> Demonstrations:
    """Random episodes of the toy task."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(episodes):
        square = rng.integers(2, SIZE - 4, 2)
        images = rng.integers(0, 40, (length, SIZE, SIZE, 3), dtype=np.uint8)
        images[:, square[0] : square[0] + 4, square[1] : square[1] + 4] = 255
        arm = rng.uniform(0, SIZE, (length, 2))
        proprio = np.zeros((length, PROPRIO_SIZE_PER_ARM), np.float32)
        proprio[:, :2] = arm / SIZE
        actions = np.zeros((length, 7), np.float32)
        actions[:, :2] = np.clip((square - arm) / SIZE, -1, 1)
        actions[:, 6] = np.where(np.arange(length) < length // 2, -1, 1)
        made.append(Episode(images, images[:, ::-1].copy(), proprio, actions, seed * 1000 + number))
    return Demonstrations(
        env_id=f"octo_bench/{task}-{embodiment}-v1",
        embodiment=embodiment,
        task=task,
        instruction=instruction,
        paraphrases=paraphrases,
        episodes=tuple(made),
        sha256=f"{seed:064x}",
        grippers=(6,),
    )


def write_demonstrations(demonstrations: Demonstrations, path: Path) -> None:
    """Write demonstrations to a file as `collect` lays it out, as far as training reads it."""
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        names = ("env_id", "embodiment", "task", "instruction")
        group.attrs.update({name: getattr(demonstrations, name) for name in names})
        group.attrs["paraphrases"] = json.dumps(demonstrations.paraphrases)
        group.attrs["grippers"] = json.dumps(demonstrations.grippers)
        for number, episode in enumerate(demonstrations.episodes):
            demo = group.create_group(f"demo_{number}")
            for name in ("image_primary", "image_wrist", "proprio"):
                demo[f"obs/{name}"] = getattr(episode, name)
            demo["actions"] = episode.actions
            demo.attrs["seed"] = episode.seed


def tiny_octo_1_5(**changes: object) -> Octo15Config:
    """An Octo 1.5 of a few ten thousand parameters."""
    values: dict[str, object] = {
        "width": 32,
        "layers": 2,
        "heads": 2,
        "feed_forward": 64,
        "images": (
            ImageTokenizerConfig("primary", "image_primary", 32, (32, 32, 32, 32), 32),
            ImageTokenizerConfig("wrist", "image_wrist", 16, (32, 32, 32, 32), 32),
        ),
        "language": T5Config(
            vocabulary=len(WORDS), width=16, head_width=8, feed_forward=32, layers=1, heads=2
        ),
        "diffusion": Octo15DiffusionConfig(hidden=32, blocks=1),
        "discrete": DiscreteConfig(bins=32),
    }
    return Octo15Config(**{**values, **changes})


WORDS = ("<pad>", "</s>", "<unk>", "go", "to", "the", "square", "follow", "lift", "cube", "red")


def write_tokenizer(folder: Path) -> None:
    """A word-level `tokenizer/tokenizer.json` that ends texts as T5's does."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))


def write_octo_1_5(
    folder: Path,
    *,
    statistics: Statistics | None = None,
    actions: Actions = "environment",
    **changes: object,
) -> Path:
    """A policy folder of `tiny_octo_1_5`, random weights and a tokenizer in it."""
    torch.manual_seed(0)
    model = Octo15(tiny_octo_1_5(**changes))
    if statistics is None:
        statistics = statistics_of([toy_demonstrations()], "mean_std")
    write_policy(folder, model, 2, statistics, "# tiny\n", actions=actions)
    write_tokenizer(folder)
    return folder


TINY_T5 = {"vocabulary": len(WORDS), "layers": 2, "width": 16, "heads": 2, "feed_forward": 32}
"""Of a `LanguageConfig` that fits `write_t5`."""


def write_t5(folder: Path) -> T5ForConditionalGeneration:
    """A T5 of random weights and its tokenizer, in files as on the Hub."""
    torch.manual_seed(0)
    sizes = T5Sizes(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    model = T5ForConditionalGeneration(sizes).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer.json")
    return model
