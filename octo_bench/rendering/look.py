"""What an episode shows otherwise than its model says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prop:
    """A thing that is only to be seen.

    `shape` is MuJoCo's mjtGeom, `size` (3,) m half sizes, `position` (3,) m and `rotation` (3, 3)
    in the world, `rgba` (4,).
    """

    shape: int
    size: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    rgba: np.ndarray


@dataclass(frozen=True)
class Lamps:
    """The model's lights elsewhere: `positions` and `directions` (nlight, 3) in the world, and
    `brightness` (3,), a factor on red, green and blue of all light."""

    positions: np.ndarray
    directions: np.ndarray
    brightness: np.ndarray


@dataclass(frozen=True)
class Look:
    """What is drawn otherwise than the model says: `colours` (ngeom, 3), `materials` (ngeom,)."""

    lamps: Lamps | None = None
    colours: np.ndarray | None = None
    materials: np.ndarray | None = None
    props: tuple[Prop, ...] = ()
