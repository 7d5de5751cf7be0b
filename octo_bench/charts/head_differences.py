"""The differences of action heads, as a figure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from octo_bench.charts.svg import Chart, element, joined, line, text
from octo_bench.tables.head_pairs import HeadPair
from octo_bench.tables.wording import demonstrations, points, points_between

_WIDTH = 400.0
_MARGIN = 20.0  # beside the axis
_TOP = 30.0
_ROW = 54.0
_ARROW = 5.0  # long, and to each side, where a whisker goes on beyond the axis


def heads(pairs: Sequence[HeadPair]) -> tuple[Chart, ...]:
    """The differences of heads with their intervals, a chart for each two of them."""
    grouped: dict[tuple[str, str], list[HeadPair]] = {}
    for pair in pairs:
        grouped.setdefault((pair.first.name, pair.second.name), []).append(pair)
    return tuple(_chart(first, second, of_two) for (first, second), of_two in grouped.items())


def _chart(first: str, second: str, pairs: Sequence[HeadPair]) -> Chart:
    # Of two trainings, which may say next to nothing, an interval would dwarf all others.
    intervals = [pair.compared.as_trained for pair in pairs]
    furthest = max(abs(bound) for each in intervals for bound in (each.low, each.high))
    reach = min(1.0, 0.1 * (int(10 * furthest) + 1))
    centre, bottom = _WIDTH / 2, _TOP + _ROW * len(pairs)

    def x(difference: float) -> float:
        return centre + (centre - _MARGIN) * difference / reach

    parts = []
    for share in (-1, -0.5, 0, 0.5, 1):
        at = x(share * reach)
        label = f"{100 * share * reach:+.0f}" if share else "0"
        parts.append(line(at, _TOP - 6, at, bottom, "grid" if share else "axis"))
        parts.append(text(at, _TOP - 12, label, "soft small", "middle"))
    said = []
    for row, pair in enumerate(pairs):
        compared, y = pair.compared, _TOP + _ROW * (row + 0.72)
        name = f"{pair.place}, {demonstrations(pair.demos)}"
        near = compared.as_trained
        drawn = [
            element("title", pair.sentence),
            line(x(near.low), y, x(near.high), y, "band s1" if pair.rejected else "band plain"),
        ]
        if (far := compared.trained_anew) is not None:
            drawn.append(_whisker(x(far.low), x(far.high), y))
        dot = "rejected" if pair.rejected else "open"
        drawn.append(element("circle", cx=x(compared.difference), cy=y, r=5, class_=dot))
        parts += [text(0, y - 16, name, "halo"), element("g", *drawn)]
        said.append(f"{name}: {points(compared.difference)}, interval {points_between(near)}")
    # One below the other: the names may be long.
    parts.append(text(_MARGIN, bottom + 20, f"← {first} is higher", "soft small"))
    parts.append(text(_WIDTH - _MARGIN, bottom + 36, f"{second} is higher →", "soft small", "end"))
    title = f"{second} minus {first}, points of success rate"
    return Chart(title, "; ".join(said), _WIDTH, bottom + 44, joined(parts))


def _whisker(low: float, high: float, y: float) -> Markup:
    """From low to high, with an arrow where that is beyond the axis."""
    left, right = max(low, _MARGIN), min(high, _WIDTH - _MARGIN)
    ends = [
        _cap(left, y) if left == low else _arrow(left, left + _ARROW, y),
        _cap(right, y) if right == high else _arrow(right, right - _ARROW, y),
    ]
    return joined([line(left, y, right, y, "whisker plain"), *ends])


def _cap(x: float, y: float) -> Markup:
    return line(x, y - 4, x, y + 4, "whisker plain")


def _arrow(tip: float, shaft: float, y: float) -> Markup:
    sides = (y - _ARROW, y + _ARROW)
    return joined([line(shaft, side, tip, y, "whisker plain") for side in sides])
