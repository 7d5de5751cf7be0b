"""Outcomes of episodes, as figures: by task and arm, and by stage."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib import colormaps

from octo_bench.charts.svg import Chart, element, joined, text
from octo_bench.tables.sections import Funnel, HeatMap, Section
from octo_bench.tables.wording import counted, demonstrations, environment_name, percent

# Dark blue to yellow, even in lightness, the same to colour-blind readers.
_HEAT = colormaps["cividis"]

_CELL = 64.0, 46.0
_FEW_CELL = 92.0, 52.0
_FEW = 4  # arms that have wider cells
_FUNNEL_COLUMNS = 5


def heat_maps(section: Section) -> tuple[Chart, ...]:
    """The success rate of each task and arm, as numbers on colours; none of a single place."""
    if all(len(each.tasks) * len(each.arms) < 2 for each in section.heat):
        return ()
    several = len({each.policy for each in section.heat}) > 1
    charts = []
    for each in section.heat:
        trained = counted(each.demos, "demonstration") if each.demos else "no demonstrations"
        charts.append(_heat_map(each, f"{each.policy}, {trained}" if several else trained))
    return tuple(charts)


def funnels(section: Section) -> tuple[Chart, ...]:
    """How many episodes reached each stage, a column for each number of demonstrations."""
    return tuple(
        _funnel(each, each.columns[start : start + _FUNNEL_COLUMNS])
        for each in section.funnels
        for start in range(0, len(each.columns), _FUNNEL_COLUMNS)
    )


def _heat_map(heat: HeatMap, title: str) -> Chart:
    wide, high = _FEW_CELL if len(heat.arms) <= _FEW else _CELL
    left = 12 + 7.2 * max(len(task) for task in heat.tasks)
    top = 24.0
    parts, said = [], []
    for column, arm in enumerate(heat.arms):
        parts.append(
            text(left + wide * (column + 0.5), top - 8, _short(arm), "soft small", "middle")
        )
    for row, task in enumerate(heat.tasks):
        down = top + high * row
        parts.append(text(left - 10, down + high / 2 + 4, task, "soft", "end"))
        for column, arm in enumerate(heat.arms):
            measured = heat.cells.get((task, arm))
            across = left + wide * column
            box = {"x": across + 1, "y": down + 1, "width": wide - 2, "height": high - 2, "rx": 5}
            if measured is None or not measured.episodes:
                parts.append(element("rect", **box, class_="empty"))
                continue
            said.append(f"{task} on {arm} {percent(measured.rate)}")
            red, green, blue, _ = _HEAT(measured.rate)
            fill = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
            ink = f"fill:{'#fff' if _luminance(red, green, blue) < 0.18 else '#000'}"
            x, y = across + wide / 2, down + high / 2
            share = f"{measured.successes}/{measured.episodes}"
            number_style = {"text_anchor": "middle", "style": ink}
            parts += [
                element("rect", **box, fill=fill),
                element(
                    "text", percent(measured.rate), x=x, y=y - 1, class_="strong", **number_style
                ),
                element("text", share, x=x, y=y + 14, class_="small", **number_style),
            ]
    return Chart(
        title,
        "; ".join(said),
        left + wide * len(heat.arms) + 4,
        top + high * len(heat.tasks) + 4,
        joined(parts),
    )


def _short(arm: str) -> str:
    """A name that fits over a cell."""
    return arm if len(arm) <= 10 else f"{arm[:9]}…"


def _luminance(*colour: float) -> float:
    """Relative luminance of an sRGB colour in [0, 1]; W3C, WCAG 2.2, "relative luminance"."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _funnel(funnel: Funnel, columns: Sequence[tuple[int, int, tuple[int, ...]]]) -> Chart:
    left = max(112.0, 14 + 7.4 * max((len(_spoken(s)) for s in funnel.stages), default=0))
    wide, high, gap, top = 80.0, 22.0, 7.0, 30.0
    parts = [text(left - 10, top - 12, "demonstrations", "soft small", "end")]
    said = []
    for row, stage in enumerate(funnel.stages):
        middle = top + (high + gap) * row + high / 2
        parts.append(text(left - 10, middle + 4, _spoken(stage), "soft", "end"))
    for column, (demos, episodes, reached) in enumerate(columns):
        centre = left + wide * (column + 0.5)
        parts.append(text(centre, top - 12, demos, "strong", "middle"))
        for row, count in enumerate(reached):
            share = count / episodes if episodes else 0.0
            down, full = top + (high + gap) * row, wide - 12
            kind = "goal" if row == len(reached) - 1 else "bar"
            parts.append(_bar(centre, down, full, high, "track"))
            if count:
                parts.append(_bar(centre, down, max(full * share, 3), high, kind))
            label = text(centre, down + high / 2 + 4, count, "strong on-bar", "middle")
            parts.append(label)
        parts.append(
            text(
                centre,
                top + (high + gap) * len(reached) + 10,
                f"of {episodes}",
                "soft small",
                "middle",
            )
        )
        steps = ", ".join(
            f"{_spoken(stage)} {count}" for stage, count in zip(funnel.stages, reached, strict=True)
        )
        said.append(f"{demonstrations(demos)}, of {counted(episodes, 'episode')}: {steps}")
    return Chart(
        f"{funnel.policy}, {environment_name(funnel.env_id)}",
        "; ".join(said),
        left + wide * len(columns) + 4,
        top + (high + gap) * len(funnel.stages) + 18,
        joined(parts),
    )


def _spoken(stage: str) -> str:
    """ "grasp both" of "grasp_both"."""
    return stage.replace("_", " ")


def _bar(centre: float, y: float, width: float, height: float, kind: str) -> Markup:
    box = {"x": centre - width / 2, "y": y, "width": width, "height": height, "rx": 4}
    return element("rect", **box, class_=kind)
