"""Drawing with SVG: elements, and charts that stand in a page or in a file of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from markupsafe import Markup, escape

from octo_bench.files import write_text

_GAP = 28
_LETTER = 8.6  # width of a letter of a title, about
_STYLES = "charts.css"


@dataclass(frozen=True)
class Chart:
    """A drawing of `width` x `height` units; a unit is about a pixel.

    `title` says what it shows, `description` what there is to see, for those who do not see it.
    """

    title: str
    description: str
    width: float
    height: float
    body: Markup

    @property
    def inline(self) -> Markup:
        """For a page that has the styles."""
        return element(
            "svg",
            element("title", f"{self.title}. {self.description}"),
            self.body,
            class_="chart",
            role="img",
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            style=f"--width:{number(self.width)}px",
        )


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An element; `class_` is the attribute `class`, and `_` in names stands for `-`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{content}</{name}>")


def text(x: float, y: float, content: object, kind: str = "", anchor: str = "start") -> Markup:
    """A line of text; `kind` are its classes."""
    return element("text", content, x=x, y=y, class_=kind or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line; `kind` are its classes."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def joined(parts: Sequence[Markup]) -> Markup:
    """One after the other."""
    return Markup("").join(parts)


def number(value: float) -> str:
    """At most two decimals: a hundredth of a pixel is not seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def write_charts(charts: Sequence[Chart], columns: int, path: Path) -> None:
    """Write charts to one SVG file, so many beside each other, each under its title."""
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    width = max(sum(_GAP + _width(chart) for chart in row) for row in rows) + _GAP
    parts, down = [], 0.0
    for row in rows:
        across = float(_GAP)
        for chart in row:
            parts.append(
                element(
                    "g",
                    text(0, 20, chart.title, "title"),
                    element("g", chart.body, transform="translate(0 34)"),
                    transform=f"translate({number(across)} {number(down + _GAP / 2)})",
                )
            )
            across += _width(chart) + _GAP
        down += max(chart.height for chart in row) + 34 + _GAP
    drawing = element(
        "svg",
        element("title", "; ".join(f"{c.title}. {c.description}" for c in charts)),
        element("style", Markup(style())),
        element("rect", width=width, height=down, class_="paper"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        class_="chart",
        role="img",
        viewBox=f"0 0 {number(width)} {number(down)}",
        width=width,
        height=down,
    )
    write_text(path, f"{drawing}\n")


def _width(chart: Chart) -> float:
    """Of the chart and its title."""
    return max(chart.width, _LETTER * len(chart.title))


def style() -> str:
    """The CSS of charts, in a page as in a file of their own."""
    folder = resources.files("octo_bench.charts") / "templates"
    return (folder / _STYLES).read_text(encoding="utf-8")


def _value(value: object) -> object:
    return number(value) if isinstance(value, int | float) else value
