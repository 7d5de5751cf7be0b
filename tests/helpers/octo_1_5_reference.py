"""The original's inputs and outputs on the miniature checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from octo_bench.models.octo_1_5.network import Inputs, Octo15

FOLDER = Path(__file__).parents[1] / "fixtures" / "octo_1_5_tiny"
FIXTURE = FOLDER / "checkpoint"
REFERENCE = dict(np.load(FOLDER / "reference.npz"))
CASES = (
    "language",
    "goal",
    "both",
    "neither",
    "padded_first",
    "no_wrist",
    "mixed",
    "gray",
    "window1",
)


def reference(case: str, name: str) -> np.ndarray:
    """One of the case's outputs."""
    return REFERENCE[f"{case}/out/{name}"]


def inputs_of(model: Octo15, case: str) -> Inputs:
    """The case's inputs; the instructions go through the model's own T5."""

    def read(name: str) -> torch.Tensor | None:
        values = REFERENCE.get(f"{case}/{name}")
        return None if values is None else torch.from_numpy(values)

    def by_camera(pattern: str) -> dict[str, torch.Tensor]:
        found = {name: read(pattern.format(name)) for name in ("primary", "wrist")}
        return {name: values for name, values in found.items() if values is not None}

    images = by_camera("observation/image_{}")
    goals = by_camera("task/image_{}")
    return Inputs(
        timestep_mask=read("observation/timestep_pad_mask"),
        images=images,
        image_masks=by_camera("observation/pad_mask_dict/image_{}"),
        goals={name: goal for name, goal in goals.items() if name in images},
        language=model.language.states(
            read("task/language_instruction/input_ids").long(),
            read("task/language_instruction/attention_mask"),
        ),
        language_mask=read("task/pad_mask_dict/language_instruction"),
    )
