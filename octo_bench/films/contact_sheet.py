"""Pictures of many environments on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import imageio.v3
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from octo_bench.definitions.environments import Environment
from octo_bench.definitions.support import support
from octo_bench.errors import BadFile
from octo_bench.experts.registry import demonstrate
from octo_bench.files import atomic_path
from octo_bench.progress import ProgressBar
from octo_bench.rendering.renderers import Quality
from octo_bench.simulation.environment import OctoBenchEnvironment

_SEED = 1
_STEPS_IN = 15
_PICTURE = 96
_LARGE_PICTURE = 192
_GAP = 4
_TEXT = 13
_ROW_LABEL = 130
_PAPER, _INK = (255, 255, 255), (30, 30, 30)

Cell = tuple[int, int]


def draw_contact_sheet(environments: Sequence[Environment], out: Path) -> None:
    """Draw all `environments` to `out` (.png): a row a task, a column an embodiment.

    Each is shown as a policy sees it, front and first wrist camera, some steps into its
    demonstration; those that are not supported are pale.

    Raises:
        BadFile: for another kind of file.
    """
    _require_png(out)
    sheets = []
    for arms in sorted({each.task.arms for each in environments}):
        chosen = [each for each in environments if each.task.arms == arms]
        tasks = list(dict.fromkeys(each.task.name for each in chosen))
        embodiments = list(dict.fromkeys(each.embodiment.name for each in chosen))
        pictures = {}
        for each in ProgressBar(chosen, desc=f"{arms} arm{'s' * (arms > 1)}"):
            cell = tasks.index(each.task.name), embodiments.index(each.embodiment.name)
            picture = np.concatenate(_views(each, "fast", _PICTURE), axis=1)
            unsupported = support(each).supported is False
            pictures[cell] = 255 - (255 - picture) // 3 if unsupported else picture
        sheets.append(_sheet(pictures, tasks, embodiments))
    _write(sheets, out)


def draw_beside_stock(environments: Sequence[Environment], out: Path) -> None:
    """Draw each of `environments` in a row of `out` (.png), fast frames beside stock ones.

    Raises:
        BadFile: for another kind of file.
    """
    _require_png(out)
    pictures: dict[Cell, np.ndarray] = {}
    for row, each in enumerate(ProgressBar(environments, desc="fast and stock")):
        fast, stock = (_views(each, quality, _LARGE_PICTURE) for quality in ("fast", "stock"))
        ordered = [picture for pair in zip(fast, stock, strict=True) for picture in pair]
        pictures.update({(row, column): picture for column, picture in enumerate(ordered)})
    columns = ["front, fast", "front, stock", "wrist, fast", "wrist, stock"]
    rows = [f"{each.task.name}\n{each.embodiment.name}" for each in environments]
    _write([_sheet(pictures, rows, columns)], out)


def _require_png(out: Path) -> None:
    if out.suffix != ".png":
        raise BadFile(out, "is not a kind of picture", "name it .png")


def _views(declared: Environment, quality: Quality, size: int) -> list[np.ndarray]:
    """Front and wrist view, (size, size, 3) uint8 each, at the same moment in every quality."""
    with closing(OctoBenchEnvironment(declared.id, render=quality, image_size=size)) as env:
        env.reset(seed=_SEED)
        motion = demonstrate(env.world)
        for _ in range(_STEPS_IN):
            env.world.step(np.clip(next(motion), -1.0, 1.0))
        observation = env.step(next(motion))[0]
        return [observation["image_primary"], observation["image_wrist"]]


def _sheet(
    pictures: dict[Cell, np.ndarray], rows: Sequence[str], columns: Sequence[str]
) -> Image.Image:
    """The pictures, all of one size, in a table; what is missing is left white."""
    height, width = next(iter(pictures.values())).shape[:2]
    font = ImageFont.load_default(_TEXT)
    top = _TEXT + 2 * _GAP
    size = (
        _ROW_LABEL + len(columns) * (width + _GAP),
        top + len(rows) * (height + _GAP),
    )
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(columns):
        pen.text((_ROW_LABEL + column * (width + _GAP), _GAP), label, _INK, font)
    for row, label in enumerate(rows):
        pen.text((_GAP, top + row * (height + _GAP)), label, _INK, font)
    for (row, column), picture in pictures.items():
        corner = (_ROW_LABEL + column * (width + _GAP), top + row * (height + _GAP))
        sheet.paste(Image.fromarray(picture), corner)
    return sheet


def _write(sheets: Sequence[Image.Image], out: Path) -> None:
    """The sheets one below the other."""
    width = max(sheet.width for sheet in sheets)
    whole = Image.new("RGB", (width, sum(sheet.height for sheet in sheets)), _PAPER)
    down = 0
    for sheet in sheets:
        whole.paste(sheet, (0, down))
        down += sheet.height
    with atomic_path(out) as temporary:
        temporary.write_bytes(imageio.v3.imwrite("<bytes>", np.array(whole), extension=".png"))
