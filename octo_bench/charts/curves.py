"""Success against demonstrations, as a figure and as a line in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from octo_bench.charts.svg import Chart, element, joined, line, number, text
from octo_bench.statistics.intervals import Interval
from octo_bench.tables.references import ReferencePoint
from octo_bench.tables.sections import Section
from octo_bench.tables.wording import between, demonstrations, environment_name, percent

_SERIES = 6  # colours and markers that the styles have

_SIZE = (400.0, 270.0)
_LEFT, _TOP, _RIGHT, _BOTTOM = 54.0, 10.0, 8.0, 46.0
_INSET = 16.0  # from the axis to the first and the last mark
_LINE = 20.0
_ASIDE = 7.0  # between the marks of two series at the same place
_TICK_GAP = 26.0  # that two labels of the axis need
_STRIP = 150.0  # width of a line in a table


@dataclass(frozen=True)
class _Point:
    demos: int
    rate: float
    inner: Interval
    outer: Interval | None


def curves(section: Section) -> tuple[Chart, ...]:
    """Success against demonstrations: a chart for each environment, a curve for each policy.

    The mean over all of them comes first.
    """
    charts = []
    for env_id in dict.fromkeys(group.env_id for group in section.shown):
        series: dict[str, list[_Point]] = {}
        for group in section.shown:
            if group.env_id == env_id:
                series[group.policy] = [
                    _Point(each.row.demos, each.row.rate, each.as_trained, each.trained_anew)
                    for each in group.rows
                    if each.row.episodes
                ]
        rows = [row for row in section.rows if row.row.env_id == env_id]
        for other in dict.fromkeys(other for row in rows for other in row.beside):
            point = _Point(other.demos, other.rate, other.interval, None)
            series.setdefault(f"{other.policy} (another study)", []).append(point)
        if any(series.values()):
            charts.append(_curve(env_id, series, section.references.get(env_id, {})))
    return tuple(charts)


def strip(rate: float, inner: Interval, outer: Interval | None, reference: float | None) -> Markup:
    """A line from 0 to 100 % with a rate, its intervals and the reference, for a table."""
    width, middle = _STRIP, 9.0
    parts = [line(0, middle, width, middle, "grid")]
    parts += [line(width * at, middle - 4, width * at, middle + 4, "grid") for at in (0, 0.5, 1)]
    parts.append(line(width * inner.low, middle, width * inner.high, middle, "band s0"))
    if outer is not None:
        parts.append(line(width * outer.low, middle, width * outer.high, middle, "whisker s0"))
    if reference is not None:
        at = width * reference
        parts.append(_cross(at, middle))
    parts.append(element("circle", cx=width * rate, cy=middle, r=4, class_="f0"))
    return element(
        "svg",
        *parts,
        class_="chart strip",
        viewBox=f"-5 0 {number(width + 10)} 18",
        aria_hidden="true",
    )


def _curve(
    env_id: str, series: Mapping[str, Sequence[_Point]], reference: Mapping[int, ReferencePoint]
) -> Chart:
    width, height = _SIZE
    demos = sorted({point.demos for of_one in series.values() for point in of_one})
    shown = {
        count: point for count, point in sorted(reference.items()) if demos[0] <= count <= demos[-1]
    }
    middle = (_LEFT + width - _RIGHT) / 2

    def x(count: int) -> float:
        # From the first number of demonstrations to the last; in the middle if it is only one.
        first, last = demos[0], demos[-1]
        place = (count - first) / (last - first) - 0.5 if last > first else 0.0
        return middle + place * (width - _LEFT - _RIGHT - 2 * _INSET)

    def y(rate: float) -> float:
        return _TOP + (height - _TOP - _BOTTOM) * (1 - rate)

    parts = [joined([_row_line(y(share), width, share) for share in (0, 0.25, 0.5, 0.75, 1)])]
    last = -_TICK_GAP
    for count in demos:
        if x(count) - last >= _TICK_GAP:
            parts.append(text(x(count), height - _BOTTOM + 18, count, "soft", "middle"))
            last = x(count)
    parts.append(
        text(middle, height - 8, "demonstrations on the new robot", "soft small", "middle")
    )
    if shown:
        where = [(x(count), y(point.success_rate)) for count, point in shown.items()]
        parts += [_path(where, "reference"), *(_cross(*each) for each in where)]
    legend = []
    for index, (name, of_one) in enumerate(series.items()):
        kind = index % _SERIES
        aside = (index - (len(series) - 1) / 2) * _ASIDE
        ordered = sorted(of_one, key=lambda point: point.demos)
        where = [(x(point.demos) + aside, y(point.rate)) for point in ordered]
        parts.append(_path(where, f"path s{kind}"))
        for point, (at, up) in zip(ordered, where, strict=True):
            parts.append(_point(point, at, up, y(point.inner.low), y(point.inner.high), kind))
            if point.outer is not None:
                parts.append(_whisker(at, y(point.outer.low), y(point.outer.high), kind))
        legend.append((_marker(_LEFT + 8, 0, kind), name))
    if shown:
        legend.append((_cross(_LEFT + 8, 0), "reference"))
    for index, (mark, name) in enumerate(legend):
        moved = f"translate(0 {number(height + 8 + _LINE * index)})"
        parts.append(element("g", mark, text(_LEFT + 24, 4, name), transform=moved))
    said = "; ".join(
        f"{name}: "
        + ", ".join(f"{percent(point.rate)} {demonstrations(point.demos)}" for point in of_one)
        for name, of_one in series.items()
    )
    return Chart(
        environment_name(env_id),
        f"Success rate: {said}",
        width,
        height + _LINE * len(legend) + 4,
        joined(parts),
    )


def _row_line(at: float, width: float, share: float) -> Markup:
    label = text(_LEFT - 8, at + 4, percent(share), "soft", "end")
    return line(_LEFT, at, width - _RIGHT, at, "grid" if share else "axis") + label


def _path(where: Sequence[tuple[float, float]], kind: str) -> Markup:
    return element(
        "path", d="M" + "L".join(f"{number(a)} {number(b)}" for a, b in where), class_=kind
    )


def _point(point: _Point, x: float, y: float, low: float, high: float, kind: int) -> Markup:
    said = f"{demonstrations(point.demos)}: {percent(point.rate)} ({between(point.inner)}"
    said += f"; if retrained {between(point.outer)})" if point.outer else ")"
    return element(
        "g",
        element("title", said),
        line(x, low, x, high, f"band s{kind}"),
        _marker(x, y, kind),
    )


def _whisker(x: float, low: float, high: float, kind: int) -> Markup:
    caps = [line(x - 4, at, x + 4, at, f"whisker s{kind}") for at in (low, high)]
    return joined([line(x, low, x, high, f"whisker s{kind}"), *caps])


def _marker(x: float, y: float, kind: int) -> Markup:
    """Another shape for each series: a disc, a square, and polygons."""
    r, fill = 5.0, f"f{kind}"
    if kind == 0:
        return element("circle", cx=x, cy=y, r=r, class_=fill)
    if kind == 1:
        return element("rect", x=x - r, y=y - r, width=2 * r, height=2 * r, class_=fill)
    corners = {
        2: ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
        3: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        4: ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
        5: ((-0.4, -1.2), (0.4, -1.2), (0.4, 1.2), (-0.4, 1.2)),
    }[kind]
    where = " ".join(f"{number(x + r * a)},{number(y + r * b)}" for a, b in corners)
    return element("polygon", points=where, class_=fill)


def _cross(x: float, y: float) -> Markup:
    r = 4.0
    return line(x - r, y - r, x + r, y + r, "cross") + line(x - r, y + r, x + r, y - r, "cross")
