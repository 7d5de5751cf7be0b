"""Pre-training: a recipe to a policy folder."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from octo_bench.checkpoints.config import TOKENIZER
from octo_bench.checkpoints.folder import describe, write_policy
from octo_bench.checkpoints.text import FILE, find_tokenizer
from octo_bench.definitions.environments import environment
from octo_bench.demonstrations.collecting import collect
from octo_bench.demonstrations.dataset import (
    Demonstrations,
    fingerprint_of,
    image_sides,
    read_demonstrations,
)
from octo_bench.demonstrations.normalisation import Statistics
from octo_bench.demonstrations.windows import Windows, statistics_of
from octo_bench.errors import BadRecipe, MissingWeights
from octo_bench.files import sha256_json
from octo_bench.models.config import OctoConfig
from octo_bench.models.octo import Octo
from octo_bench.models.pretrained import UnavailableError, fetch
from octo_bench.training.loop import finish, train
from octo_bench.training.objective import objective
from octo_bench.training.recipes import Data, Recipe, read_recipe
from octo_bench.training.settings import TrainingSummary

DATA_FOLDER = "demonstrations"


def pretrain(
    recipe: Path, out: Path, *, data: Path | None = None, workers: int = 1, progress: bool = True
) -> TrainingSummary:
    """Collect the recipe's demonstrations where they are missing, train, write a policy folder.

    Args:
        data: folder of the demonstration files, `demonstrations` inside `out` by default.
        workers: processes that collect.
    """
    declared = read_recipe(recipe)
    for entry in declared.data:
        environment(entry.env)
    initial_model(declared.model, declared.seed)  # fails, if it does, before the long work
    folder = out / DATA_FOLDER if data is None else data
    for entry in declared.data:
        collect(
            entry.env,
            entry.demos,
            demonstration_file(folder, entry),
            first_seed=entry.first_seed,
            suite=entry.suite,
            level=entry.level,
            disturbance=entry.disturbance,
            workers=workers,
            progress=progress,
        )
    datasets = [
        read_demonstrations(demonstration_file(folder, entry), entry.demos, mapped=True)
        for entry in declared.data
    ]
    return pretrain_on(declared, datasets, out, recipe=recipe, progress=progress)


def demonstration_file(folder: Path, entry: Data) -> Path:
    """Where the demonstrations of a recipe's entry lie."""
    look = f"-{entry.suite}{entry.level}" if entry.suite else ""
    noise = entry.disturbance
    disturbed = f"-{noise.translation:g}-{noise.rotation:g}" if noise else ""
    return folder / f"{entry.env.split('/')[-1]}{look}{disturbed}-seed{entry.first_seed}.hdf5"


def pretrain_on(
    declared: Recipe,
    datasets: Sequence[Demonstrations],
    out: Path,
    *,
    recipe: Path,
    progress: bool = True,
) -> TrainingSummary:
    """Train on demonstrations that are already read, and write a policy folder.

    Args:
        recipe: the recipe's file, named in errors and in the model card.
    """
    _check_sizes(declared, datasets, recipe)
    statistics = statistics_of(datasets, declared.normalisation)
    if declared.scaling == "shared":
        statistics = statistics.shared()
    _check_range(declared, statistics, datasets, recipe)
    windows = Windows(
        datasets,
        statistics,
        window=declared.model.window,
        chunk=declared.model.chunk,
        proprio=declared.model.proprio,
        weights=[entry.weight for entry in declared.data],
    )
    model = initial_model(declared.model, declared.seed)
    summary = train(
        objective(model, windows, declared.optimisation, recipe.parent),
        declared.optimisation,
        out,
        seed=declared.seed,
        fingerprints={
            "recipe": sha256_json(asdict(declared)),
            "demonstrations": sha256_json([fingerprint_of(data) for data in datasets]),
        },
        progress=progress,
    )
    card = _card(out.name, declared, datasets, model, summary)
    if declared.model.language.pretrained:
        (out / TOKENIZER).mkdir(exist_ok=True)
        file = find_tokenizer(recipe.parent, declared.model.language.pretrained)
        shutil.copy(file, out / TOKENIZER / FILE)
    write_policy(out, model, declared.execute, statistics, card)
    finish(out)
    return summary


def initial_model(config: OctoConfig, seed: int) -> Octo:
    """A network whose random weights depend on `seed` only; pre-trained parts are fetched.

    Raises:
        MissingWeights: when these are not available or do not fit, tokenizer included.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = Octo(config, load_pretrained=True)
            if config.language.pretrained:
                fetch(config.language.pretrained, FILE)
        except UnavailableError as error:
            raise MissingWeights(str(error)) from error
    return model


def _check_sizes(declared: Recipe, datasets: Sequence[Demonstrations], recipe: Path) -> None:
    """Refuse a network for other observations or actions than the data's."""
    model = declared.model
    for data in datasets:
        for episode in data.episodes:
            for key, wanted, there in (
                ("action_size", model.action_size, episode.actions.shape[1]),
                ("wrist_cameras", model.wrist_cameras, len(episode.cameras) - 1),
                *(("image_size", model.image_size, side) for side in image_sides(episode)),
            ):
                if wanted != there:
                    problem = f"'model.{key}' = {wanted}, but {data.env_id} has {there}"
                    raise BadRecipe(recipe, problem, f"set it to {there}, or leave out the data")
            entries = episode.proprio.shape[1]
            if max(model.proprio, default=-1) >= entries:
                problem = f"'model.proprio' reads more than the {entries} entries of {data.env_id}"
                raise BadRecipe(recipe, problem, f"use entries up to {entries - 1}")


def _check_range(
    declared: Recipe, statistics: Statistics, datasets: Sequence[Demonstrations], recipe: Path
) -> None:
    """Refuse a head that cannot give the actions of the data."""
    reach = max(
        float(abs(statistics.actions_of(data.embodiment).normalise(episode.actions)).max())
        for data in datasets
        for episode in data.episodes
    )
    bound = declared.model.action_range
    if reach > bound + 1e-4:
        key = f"model.{declared.model.head}.action_range"
        problem = f"'{key}' = {bound:g}, but normalised actions reach {reach:.2f}"
        raise BadRecipe(recipe, problem, f"set it to {reach:.2f} or more")


def _card(
    name: str,
    declared: Recipe,
    datasets: Sequence[Demonstrations],
    model: Octo,
    summary: TrainingSummary,
) -> str:
    """The model card."""

    def rows() -> Iterator[str]:
        for entry, data in zip(declared.data, datasets, strict=True):
            frames = sum(len(episode.actions) for episode in data.episodes)
            look = f"{entry.suite}, level {entry.level}" if entry.suite else "plain"
            yield (
                f"| `{entry.env}` | {look} | {len(data.episodes)} | {frames} | {entry.weight:g} "
                f"| {entry.first_seed} and on | `{data.sha256[:12]}` |"
            )

    parameters = sum(p.numel() for p in model.parameters())
    data_rows = "\n".join(rows())
    return f"""# {name}

An Octo policy with a {declared.model.head} head, {parameters:,} parameters, pre-trained by
`octo-bench pretrain` on scripted demonstrations in simulation.

- Steps: {summary.steps}, batch {declared.optimisation.batch_size}, seed {declared.seed}
- Training time: {summary.seconds / 60:.0f} min on {declared.optimisation.threads} CPU thread(s)
  ({platform.machine()}, torch {torch.__version__})
- Final loss: {summary.final_loss:.4f}

## Data

| environment | look | demonstrations | frames | weight | seeds | sha256 |
|---|---|---|---|---|---|---|
{data_rows}

Tasks and arms are sampled by weight, the files of one task and arm by their number of frames.

Scripted experts demonstrate, with noise on the executed actions; only successes are kept. The
policy has seen no real images, no other arms and no other tasks.

## Model

{describe(declared.model)}

## Optimisation

{describe(declared.optimisation)}
"""
