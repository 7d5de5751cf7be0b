"""Scaling actions and proprioception, and `statistics.json`.

The environments' actions mean the same on every arm, so one scaling is shared by all: with one per
embodiment, an unseen arm un-normalizes outputs with an offset that the network was not
trained for, so a zero output becomes a constant rotation. Where actions mean different things, each
embodiment has its own, and a pooled entry is there for the others. Grippers are left alone, since
they are commands and not distances; which entries they are is declared with the data.
Proprioception is scaled by one set of statistics.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from octo_bench.errors import BadCheckpoint
from octo_bench.files import write_json
from octo_bench.reading import read_json

Kind = Literal["bounds", "mean_std"]
POOLED = "default"
SMALLEST_ACTION_SCALE = 0.05
"""In environment units: an action entry that hardly moves is not scaled to full range."""
SMALLEST_PROPRIO_SCALE = 0.01


@dataclass(frozen=True)
class Affine:
    """normalised = (raw - offset) / scale, entry by entry; both (K,) float32.

    With a `limit`, what is normalised is clipped to plus or minus it.
    """

    offset: np.ndarray
    scale: np.ndarray
    limit: float | None = None

    def normalise(self, raw: np.ndarray) -> np.ndarray:
        """(..., K) raw to normalised, float32."""
        normalised = ((raw - self.offset) / self.scale).astype(np.float32)
        return normalised if self.limit is None else normalised.clip(-self.limit, self.limit)

    def restore(self, normalised: np.ndarray) -> np.ndarray:
        """(..., K) normalised to raw, float32."""
        return (normalised * self.scale + self.offset).astype(np.float32)


@dataclass(frozen=True)
class Statistics:
    """Scaling of one policy: `actions` by embodiment, with a pooled entry named "default"."""

    kind: Kind
    proprio: Affine
    actions: Mapping[str, Affine]

    def actions_of(self, embodiment: str | None) -> Affine:
        """The scaling for an embodiment, the pooled one if it was never seen."""
        return self.actions.get(embodiment or POOLED, self.actions[POOLED])

    def table(self) -> dict[str, Any]:
        """As in `statistics.json`."""

        def plain(scaling: Affine) -> dict[str, Any]:
            limit = {} if scaling.limit is None else {"limit": scaling.limit}
            return {"offset": scaling.offset.tolist(), "scale": scaling.scale.tolist(), **limit}

        return {
            "format": 1,
            "kind": self.kind,
            "proprio": plain(self.proprio),
            "actions": {name: plain(scaling) for name, scaling in self.actions.items()},
        }

    def shared(self) -> Statistics:
        """A copy in which every embodiment has the pooled scaling."""
        return Statistics(self.kind, self.proprio, {POOLED: self.actions[POOLED]})

    def with_actions(self, embodiment: str, scaling: Affine) -> Statistics:
        """A copy in which `embodiment` has `scaling`."""
        return Statistics(self.kind, self.proprio, {**self.actions, embodiment: scaling})


def action_scaling(actions: np.ndarray, kind: Kind, grippers: Collection[int]) -> Affine:
    """Scaling of actions (N, A), the entries `grippers` untouched.

    "bounds" maps the smallest and largest value to -1 and 1; "mean_std" standardises.
    """
    if kind == "bounds":
        low, high = actions.min(0), actions.max(0)
        offset, scale = (low + high) / 2, (high - low) / 2
    else:
        offset, scale = actions.mean(0), actions.std(0)
    scale = np.maximum(scale, SMALLEST_ACTION_SCALE)
    gripper = np.isin(np.arange(actions.shape[1]), list(grippers))
    return Affine(
        np.where(gripper, 0, offset).astype(np.float32),
        np.where(gripper, 1, scale).astype(np.float32),
    )


def compute_statistics(
    actions: Mapping[str, Sequence[np.ndarray]],
    proprio: Sequence[np.ndarray],
    kind: Kind,
    grippers: Collection[int],
) -> Statistics:
    """Statistics from raw actions (N, A) by embodiment and raw proprioception (N, P).

    Args:
        grippers: the entries of an action that are not scaled.
    """
    by_embodiment = {name: np.concatenate(list(parts)) for name, parts in actions.items()}
    pooled = np.concatenate(list(by_embodiment.values()))
    states = np.concatenate(list(proprio))
    return Statistics(
        kind=kind,
        proprio=Affine(
            states.mean(0).astype(np.float32),
            np.maximum(states.std(0), SMALLEST_PROPRIO_SCALE).astype(np.float32),
        ),
        actions={
            POOLED: action_scaling(pooled, kind, grippers),
            **{name: action_scaling(part, kind, grippers) for name, part in by_embodiment.items()},
        },
    )


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write `statistics.json`."""
    write_json(path, statistics.table())


def read_statistics(path: Path, action_size: int, *, allow_shorter: bool = False) -> Statistics:
    """Read `statistics.json`.

    Args:
        path: the file.
        action_size: entries of the model's actions.
        allow_shorter: an embodiment may use the first of them only.

    Raises:
        BadCheckpoint: naming the entry that is missing or has the wrong length.
    """
    fix = "copy it again from where the policy was trained"

    def scaling(name: str, values: Any, sizes: Collection[int] | None = None) -> Affine:
        try:
            offset = np.asarray(values["offset"], np.float32)
            scale = np.asarray(values["scale"], np.float32)
            limit = None if values.get("limit") is None else float(values["limit"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadCheckpoint(path, f"'{name}' has no numeric offset and scale", fix) from error
        if limit is not None and not 0 < limit < np.inf:
            raise BadCheckpoint(path, f"'{name}.limit' = {limit} is not a positive number", fix)
        fits = offset.ndim == 1 and offset.shape == scale.shape
        fits = fits and (sizes is None or len(offset) in sizes)
        if not (fits and np.isfinite([offset, scale]).all() and (scale > 0).all()):
            wanted = f"{'up to ' if allow_shorter else ''}{action_size}" if sizes else "as many"
            problem = f"'{name}' must hold {wanted} offsets and positive scales"
            raise BadCheckpoint(path, problem, fix)
        return Affine(offset, scale, limit)

    values = read_json(path, BadCheckpoint, fix, missing=fix)
    if not isinstance(values, dict) or not isinstance(values.get("actions"), dict):
        raise BadCheckpoint(path, "has no table 'actions'", fix)
    if POOLED not in values["actions"]:
        raise BadCheckpoint(path, f"'actions' has no entry '{POOLED}'", fix)
    if values.get("kind", "bounds") not in get_args(Kind):
        problem = f"'kind' is {values['kind']!r}"
        raise BadCheckpoint(path, problem, f"use one of {', '.join(get_args(Kind))}")
    sizes = range(1 if allow_shorter else action_size, action_size + 1)
    return Statistics(
        kind=values.get("kind", "bounds"),
        proprio=scaling("proprio", values.get("proprio")),
        actions={
            name: scaling(f"actions.{name}", entry, sizes)
            for name, entry in values["actions"].items()
        },
    )
