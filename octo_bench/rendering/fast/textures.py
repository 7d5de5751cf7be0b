"""A model's textures with their mipmaps, kept once in a process.

A level is half as large as the one before, rounded down. Its texels lie at (i + 1/2) n / m - 1/2 of
that, linearly interpolated along x, rounded half up, then along y, as Mesa's software renderer
makes them. Those of sRGB textures are interpolated as light.
"""

from __future__ import annotations

import ctypes
from functools import cache
from weakref import WeakValueDictionary

import mujoco
import numpy as np

from octo_bench.rendering.fast.rasterizer import CUBE, FLAT, MOST_LEVELS, TextureStruct
from octo_bench.rendering.fast.shapes import digest

_FACES = 6


class Texture:
    """Texels of all levels, laid out for the compiled core.

    Attributes:
        struct: for the core; it points into arrays that live as long as this object.
        flat: whether it is a picture, not the six of a cube.
    """

    def __init__(self, images: np.ndarray, flat: bool, srgb: bool) -> None:
        """Make the mipmaps.

        Args:
            images: (1 or 6, height, width, 3 or 4) uint8.
            flat: whether it is a picture; else those of a cube's faces, one standing for all six.
            srgb: whether its bytes are sRGB.
        """
        self.flat = flat
        opaque = np.full((*images.shape[:3], 4), 255, np.uint8)
        opaque[..., : images.shape[3]] = images
        levels = [opaque]
        while max(levels[-1].shape[1:3]) > 1 and len(levels) < MOST_LEVELS:
            levels.append(_smaller(levels[-1], srgb))
        offsets = np.cumsum([0, *(level.size // 4 for level in levels[:-1])])
        self._texels = np.concatenate([level.reshape(-1).view("<u4") for level in levels])
        self.struct = TextureStruct(
            self._texels.ctypes.data,
            linear_light().ctypes.data if srgb else 0,
            FLAT if flat else CUBE,
            images.shape[2],
            images.shape[1],
            len(levels),
            int(len(images) == _FACES),
            tuple(int(offset) for offset in offsets),
        )

    @property
    def address(self) -> int:
        """Of the structure."""
        return ctypes.addressof(self.struct)

    @property
    def nbytes(self) -> int:
        """Of the texels."""
        return self._texels.nbytes


_kept: WeakValueDictionary[bytes, Texture] = WeakValueDictionary()


def texture(model: mujoco.MjModel, number: int) -> Texture:
    """Texture `number` of a model, made where no simulation of the process has it yet."""
    height, width = int(model.tex_height[number]), int(model.tex_width[number])
    channels, start = int(model.tex_nchannel[number]), int(model.tex_adr[number])
    flat = bool(model.tex_type[number] == mujoco.mjtTexture.mjTEXTURE_2D)
    shape = (1, height, width, channels)
    if not flat:
        shape = (1 if width == height else _FACES, width, width, channels)
    data = model.tex_data[start : start + int(np.prod(shape))].reshape(shape)
    srgb = bool(flat and model.tex_colorspace[number] == mujoco.mjtColorSpace.mjCOLORSPACE_SRGB)
    key = digest(data) + bytes([flat, srgb])
    found = _kept.get(key)
    if found is None:
        found = _kept[key] = Texture(data, flat, srgb)
    return found


def _smaller(images: np.ndarray, srgb: bool) -> np.ndarray:
    """The next level of images (n, height, width, 4) uint8."""
    if not srgb:
        return _halved(_halved(images, 2), 1)
    light = linear_light()[images[..., :3]].astype(np.float64)
    light = _interpolated(_interpolated(light, 2), 1)
    between = (_light_of(np.arange(255) + 0.5)).astype(np.float64)
    alpha = _halved(_halved(images[..., 3:], 2), 1)
    return np.concatenate([np.searchsorted(between, light, "right").astype(np.uint8), alpha], -1)


def _halved(values: np.ndarray, axis: int) -> np.ndarray:
    return np.floor(_interpolated(values.astype(np.float64), axis) + 0.5).astype(np.uint8)


def _interpolated(values: np.ndarray, axis: int) -> np.ndarray:
    """Half as many values along an axis, float64."""
    before = values.shape[axis]
    after = max(1, before // 2)
    at = (np.arange(after) + 0.5) * before / after - 0.5
    first = np.floor(at).astype(np.int64)
    shape = [1] * values.ndim
    shape[axis] = after
    share = (at - first).reshape(shape)
    lower = values.take(first.clip(0, before - 1), axis)
    upper = values.take((first + 1).clip(0, before - 1), axis)
    return lower * (1 - share) + upper * share


@cache
def linear_light() -> np.ndarray:
    """The light (256,) float32 that each byte of sRGB stands for (IEC 61966-2-1)."""
    return _light_of(np.arange(256.0)).astype(np.float32)


def _light_of(values: np.ndarray) -> np.ndarray:
    """The light of sRGB `values` from 0 to 255, which need not be whole."""
    encoded = values / 255
    bright = np.maximum((encoded + 0.055) / 1.055, 0.05)
    # bright to the power 12/5: the fifth root of its square, by Newton's method.
    square = bright * bright
    root = np.ones_like(square)
    for _ in range(40):
        fourth = root * root * root * root
        root = root - (root * fourth - square) / (5 * fourth)
    return np.where(encoded <= 0.04045, encoded / 12.92, square * root)
