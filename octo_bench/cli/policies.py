"""Commands that list policies and make new ones."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from octo_bench.cli.arguments import AsJson, EnvId, SuiteLevel, SuiteName, Workers, refuse_idle
from octo_bench.cli.exits import resumable
from octo_bench.cli.printing import print_rows

S = TypeVar("S")


class Mode(StrEnum):
    """What fine-tuning changes."""

    full = "full"
    lora = "lora"
    head = "head"


def _with_a_network(policy: str) -> str:
    from octo_bench.agents.sources import source_of

    if not source_of(policy).trainable:
        raise typer.BadParameter(
            f"'{policy}' has no network to fine-tune; choose a policy from `octo-bench policies`"
        )
    return policy


def policies(as_json: AsJson = False) -> None:
    """List the shipped policies. One without weights is a network to train."""
    from octo_bench.checkpoints.config import CONFIG, WEIGHTS, image_sizes, read_config
    from octo_bench.paths import policies_root

    rows = []
    for folder in sorted(file.parent for file in policies_root().glob(f"*/{CONFIG}")):
        config, weights = read_config(folder), folder / WEIGHTS
        trained = weights.is_file()
        rows.append(
            {
                "name": folder.name,
                "architecture": config.architecture,
                "head": config.model.head,
                "image_sizes": image_sizes(config.model),
                "chunk": config.model.chunk,
                "weights": trained,
                "megabytes": round(weights.stat().st_size / 1e6, 1) if trained else 0.0,
            }
        )
    print_rows(rows, as_json)


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Released Octo 1.5 checkpoint: a folder or a Hub id."
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="Policy folder to write; must not exist.")
    ],
    step: Annotated[
        int | None, typer.Option(min=0, help="Step of the checkpoint. Default: the last one.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Data set whose action statistics are used for embodiments that the checkpoint "
            "does not list.",
        ),
    ] = None,
) -> None:
    """Convert a released Octo 1.5 checkpoint, or a fine-tune of one, to a policy folder.

    Needs neither JAX nor TensorFlow, and executes nothing in the checkpoint.
    """
    from octo_bench.checkpoints.conversion import convert as convert_checkpoint

    summary = convert_checkpoint(source, destination, step=step, dataset=dataset)
    print(f"Octo 1.5 with a {summary.config.head} head, step {summary.step}")
    print(f"{summary.parameters:,} parameters, {summary.parameters_without_t5:,} without T5")
    print(f"Datasets: {', '.join(summary.datasets)}; default: {summary.default_dataset}")
    for later in summary.skipped:
        print(f"Skipped step {later}: it has no parameters, saving it was interrupted")
    if summary.assumed:
        print("Nothing says how its actions were normalized: mean and deviation are assumed")
    if not summary.has_tokenizer:
        print(summary.tokenizer_wanted(destination))
    named = destination if destination.parent != Path() else f"./{destination}"
    print(f"Written to {destination}. Next: octo-bench evaluate {named} ENV ...")


def collect(
    context: typer.Context,
    env: EnvId,
    demos: Annotated[int, typer.Option(min=1, help="Successful demonstrations to keep.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write; an unfinished one is continued.")],
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first attempt; the next seeds follow.")
    ] = 0,
    suite: SuiteName = "",
    level: SuiteLevel = 1,
    workers: Workers = 1,
) -> None:
    """Collect demonstrations from the scripted expert, in robomimic's HDF5 layout."""
    from octo_bench.demonstrations.collecting import collect as collect_demonstrations
    from octo_bench.files import require_writable

    if not suite:
        refuse_idle(context, "level", where="without --suite")
    require_writable(out, ".hdf5", ".h5")
    with resumable():
        summary = collect_demonstrations(
            env, demos, out, first_seed=seed, suite=suite, level=level, workers=workers
        )
    print(
        f"{out}: {summary.kept} demonstrations kept of {summary.tried} attempts, {summary.steps} "
        "steps"
    )


def pretrain(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe.toml.")],
    out: Annotated[Path, typer.Option(help="Policy folder to write; a stopped run is continued.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for demonstrations, which recipes may share. Default: inside OUT.",
        ),
    ] = None,
    workers: Workers = 1,
) -> None:
    """Pre-train a policy by a recipe, after collecting the demonstrations that it names."""
    from octo_bench.checkpoints.config import POLICY_FILES
    from octo_bench.files import require_unfinished, require_writable_folder
    from octo_bench.training.loop import STATE
    from octo_bench.training.pretrain import pretrain as pretrain_policy

    require_writable_folder(out)
    require_unfinished(out, *POLICY_FILES, state=STATE)
    if data is not None:
        require_writable_folder(data)
    summary = pretrain_policy(recipe, out, data=data, workers=workers)
    print(f"{out}: {summary.steps} steps in {summary.seconds / 60:.1f} min")


def finetune(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="POLICY",
            help="Policy to start from: shipped name, policy folder or Hugging Face Hub id.",
            callback=_with_a_network,
        ),
    ],
    demonstrations: Annotated[Path, typer.Option(help="HDF5 file of demonstrations.")],
    demos: Annotated[int, typer.Option(min=1, help="How many demonstrations to use.")],
    out: Annotated[Path, typer.Option(help="Policy folder to write; a stopped run is continued.")],
    settings: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Take the training settings of a study (a name under results/ or a study.toml): "
            "those for POLICY, otherwise its `finetune` table, with steps interpolated to "
            "--demos. The options below override them.",
        ),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Which parameters are trained.", show_default="full")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="HEAD", help="Another action head, such as `categorical` or `l1`."),
    ] = None,
    proprio: Annotated[
        bool,
        typer.Option("--proprio", help="Add proprioception to a policy that does not read it."),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Optimiser steps.", show_default="by --demos: 1000 for 50, 2500 for 200"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Batch size.", show_default="64")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=0, help="Peak learning rate; it decays along a cosine.", show_default="0.0005"
        ),
    ] = None,
    draw: Annotated[
        int,
        typer.Option(
            min=0, help="Which subset of the demonstrations to use; subsets do not overlap."
        ),
    ] = 0,
    per_draw: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Demonstrations in each subset, of which the first --demos are used.",
            show_default="--demos",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Training seed.")] = 0,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights.")
    ] = False,
) -> None:
    """Fine-tune a policy on demonstrations.

    The arm may have another action size. Parts that the checkpoint has no weights for are listed.
    """
    from octo_bench.checkpoints.config import POLICY_FILES
    from octo_bench.demonstrations.dataset import read_demonstrations
    from octo_bench.files import require_unfinished, require_writable_folder
    from octo_bench.studies.study import find_study, read_study, settings_for
    from octo_bench.training.finetune import FinetuneSettings
    from octo_bench.training.finetune import finetune as finetune_policy
    from octo_bench.training.loop import STATE
    from octo_bench.training.steps import steps_for

    if per_draw is not None and per_draw < demos:
        raise typer.BadParameter(f"--per-draw {per_draw} is less than --demos {demos}")
    require_writable_folder(out)
    require_unfinished(out, *POLICY_FILES, state=STATE)
    if settings is None:
        base = FinetuneSettings(seed=seed)
        usual = dataclasses.replace(base.optimisation, steps=steps_for(demos))
        base = dataclasses.replace(base, optimisation=usual)
    else:
        study = read_study(find_study(settings))
        base = settings_for(study, policy, demos, from_scratch=from_scratch, seed=seed)
    optimisation = _changed(
        base.optimisation, steps=steps, batch_size=batch_size, learning_rate=learning_rate
    )
    summary = finetune_policy(
        policy,
        read_demonstrations(demonstrations, demos, draw, per_draw),
        out,
        _changed(
            base,
            mode=None if mode is None else mode.value,
            head=head,
            proprio=proprio or None,
            optimisation=optimisation,
        ),
        from_scratch=from_scratch,
    )
    if summary.new:
        print(f"Not in {policy}, so initialized at random: {', '.join(summary.new)}")
    if summary.clipped:
        print(f"{summary.clipped:.2%} of the action entries are beyond the range of the head")
    print(f"{out}: {summary.steps} steps in {summary.seconds / 60:.1f} min")


def _changed(settings: S, **given: object) -> S:
    """A copy of `settings` with the given values; None leaves a field unchanged."""
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(settings, **changes)
