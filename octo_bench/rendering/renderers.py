"""The two looks, and the renderer of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import mujoco
import numpy as np

from octo_bench.rendering.cameras import CameraPose
from octo_bench.rendering.fast.rasterizer import source_sha256
from octo_bench.rendering.fast.renderer import FastRenderer
from octo_bench.rendering.look import Look
from octo_bench.rendering.opengl_renderer import StockRenderer

Quality = Literal["fast", "stock"]


class Renderer(Protocol):
    """Draws square frames of one model, from cameras that need not exist in it."""

    def wear(self, look: Look) -> None:
        """Draw all that follows with this look, whatever it was before."""

    def frames(self, qpos: np.ndarray, cameras: Sequence[CameraPose]) -> list[np.ndarray]:
        """One (size, size, 3) uint8 frame a camera, at joint positions `qpos`."""

    def close(self) -> None:
        """Free what it holds."""


_RENDERERS: dict[str, type[FastRenderer] | type[StockRenderer]] = {
    "fast": FastRenderer,
    "stock": StockRenderer,
}


def make_renderer(model: mujoco.MjModel, size: int, quality: Quality) -> Renderer:
    """The renderer of a look, for `model` in frames of `size` pixels.

    Raises:
        MissingDependency: when what it draws with is missing: the compiled core, or OpenGL.
        UnsupportedEnvironment: for a kind of geom that the fast look does not draw.
    """
    return _RENDERERS[quality](model, size)


def renderer_name() -> str:
    """What draws the frames of policies and demonstrations, with the hash of its source."""
    return f"octo-bench rasterizer {source_sha256()[:12]}"
