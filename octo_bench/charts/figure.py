"""The figure of a study: success against demonstrations, with the reference points.

Of several targets, the mean over them stands above, and each of them in small below. A study of
conditions, or of policies that all have as many demonstrations, has a list of dots instead: those
are not numbers that an axis could be made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from octo_bench.files import atomic_path
from octo_bench.records.conditions import Condition
from octo_bench.tables.table import Mean, Row, Table

# Okabe and Ito's colours, told apart with any colour vision; markers differ too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_REFERENCE = {"color": "#555555", "linestyle": ":", "marker": "x", "zorder": 1}
_SIDESTEP = 1.5  # demonstrations between the error bars of two curves
_COLUMNS = 3  # of small figures
_DOT_ROW = 0.28  # inches that a line of the list of dots takes

Point = Row | Mean


@dataclass(frozen=True)
class _Dots:
    """A part of a list of dots: its heading, and a line of so much of `reference` through it.

    `points` are named; `number` is that of their colour and marker.
    """

    heading: str
    points: tuple[tuple[str, Point], ...]
    number: int = 0
    reference: float | None = None


def write_figure(table: Table, folder: Path) -> None:
    """Write `figure.svg` and `figure.png` into `folder`."""
    figure = draw(table)
    with (
        atomic_path(folder / "figure.svg") as path,
        rc_context({"svg.hashsalt": "octo-bench"}),  # the same figure is the same file
    ):
        figure.savefig(path, format="svg", metadata={"Date": None})
    with atomic_path(folder / "figure.png") as path:
        figure.savefig(path, format="png", dpi=150)


def draw(table: Table) -> Figure:
    """The figure of a study: a list of dots, a mean with its targets, or curves alone."""
    if any(not row.condition.is_plain for row in table.rows):
        return _draw_dots(table, _by_condition(table))
    policies = {row.policy for row in table.rows}
    if len(policies) > 1 and len({row.demos for row in table.rows}) == 1:
        return _draw_dots(table, _by_policy(table))
    return _draw_targets(table) if table.targets else _draw_curves(table)


def _draw_curves(table: Table) -> Figure:
    """A curve for each policy and environment, all in one."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    curves: dict[tuple[str, str], list[Row]] = {}
    environments = {row.env_id for row in table.rows}
    beside = [row for row in table.beside if row.env_id in environments and row.condition.is_plain]
    for row in (*table.rows, *beside):
        curves.setdefault((row.policy, row.env_id), []).append(row)
    for i, ((policy, env_id), rows) in enumerate(curves.items()):
        _curve(axes, rows, f"{policy}, {_short(env_id)}", i, _aside(i, len(curves)))
    references = list(table.references.values())
    for i, reference in enumerate(references):
        if reference not in references[:i]:
            demos = sorted(reference)
            rates = [reference[n].success_rate for n in demos]
            axes.plot(demos, rates, label="reference", **_REFERENCE)
    _dress(axes, table.rows)
    _label(axes, table)
    axes.set_title(table.title, loc="left", fontsize="medium", wrap=True)
    axes.legend(frameon=False, loc="lower right", fontsize="small")
    return figure


def _draw_targets(table: Table) -> Figure:
    """The mean over all targets, a curve a policy, and each target below."""
    policies = list(dict.fromkeys(row.policy for row in table.rows))
    lines = -(-len(table.targets) // _COLUMNS)
    heights = [3.8, *[2.1] * lines]
    figure = Figure(figsize=(8.0, sum(heights) + 0.5 + 0.12 * len(policies)), layout="constrained")
    grid = figure.add_gridspec(1 + lines, _COLUMNS, height_ratios=heights)
    figure.suptitle(table.title, x=0.01, ha="left", fontsize="medium", wrap=True)

    axes = figure.add_subplot(grid[0, :])
    _panel(axes, table, table.means, policies)
    _label(axes, table)
    axes.set_title(f"Mean over {len(table.targets)} targets", loc="left", fontsize="small")
    for i, target in enumerate(table.targets):
        small = figure.add_subplot(grid[1 + i // _COLUMNS, i % _COLUMNS])
        rows = [row for row in table.rows if row.env_id == target]
        _panel(small, table, rows, policies)
        small.set_title(_short(target), loc="left", fontsize="small")
        small.tick_params(labelsize="x-small")
    # While targets are still missing, the mean does not have all curves.
    drawn = [each.get_legend_handles_labels() for each in figure.axes]
    named = {label: handle for each in drawn for handle, label in zip(*each, strict=True)}
    place = {"loc": "outside lower left", "ncols": 2, "fontsize": "small"}
    figure.legend(named.values(), named.keys(), frameon=False, **place)
    return figure


def _by_condition(table: Table) -> list[_Dots]:
    """The conditions of each policy, environment and number of demonstrations."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in table.rows:
        groups.setdefault((row.policy, row.env_id, row.demos), []).append(row)
    policies = list(dict.fromkeys(row.policy for row in table.rows))
    return [
        _Dots(
            f"{policy}, {_short(env_id)}, {demos} demonstrations",
            tuple((row.condition.short_name, row) for row in rows),
            policies.index(policy),
            # Of the task unperturbed, also where that is not among the conditions.
            _reference_of(table, [replace(rows[0], condition=Condition())]),
        )
        for (policy, env_id, demos), rows in groups.items()
    ]


def _by_policy(table: Table) -> list[_Dots]:
    """The policies of the mean, if there is one, and of each environment."""
    one_head = len({row.head for row in table.rows}) == 1
    groups: dict[str, list[Point]] = {}
    if table.targets:
        groups[f"Mean over {len(table.targets)} targets"] = list(table.means)
    for row in table.rows:
        groups.setdefault(_short(row.env_id), []).append(row)
    return [
        _Dots(
            f"{where}, {points[0].demos} demonstrations",
            tuple((point.policy if one_head else _with_head(point), point) for point in points),
            reference=_reference_of(table, points),
        )
        for where, points in groups.items()
        if points
    ]


def _reference_of(table: Table, points: Sequence[Point]) -> float | None:
    """The reference rate beside these: one, as they have an environment and demonstrations."""
    found = [table.reference_of(point) for point in points]
    return next((each.success_rate for each in found if each is not None), None)


def _draw_dots(table: Table, groups: Sequence[_Dots]) -> Figure:
    """A dot with its interval for each point, a line each, under the headings of their groups."""
    lines = sum(len(group.points) for group in groups)
    height = 1.2 + _DOT_ROW * (lines + 1.5 * len(groups))
    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.add_subplot()
    names, places, at = [], [], 0.0
    for group in groups:
        axes.text(0.0, at, group.heading, fontsize="small", fontweight="bold", va="center")
        if group.reference is not None:
            ends = (at + 0.5, at + 0.5 + len(group.points))
            axes.plot([group.reference] * 2, ends, **{**_REFERENCE, "marker": ""})
        style = {"color": _colour(group.number), "marker": _marker(group.number), "capsize": 3}
        for name, point in group.points:
            at += 1.0
            places.append(at)
            names.append(name)
            if not isnan(point.rate):
                interval = [[point.rate - point.interval.low], [point.interval.high - point.rate]]
                axes.errorbar([point.rate], [at], xerr=interval, **style)
        at += 1.5
    axes.set_yticks(places, names, fontsize="small")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(at - 0.7, -0.8)
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    plain = all(row.condition.is_plain for row in table.rows)
    dotted = "; dotted is the reference" + ("" if plain else ", unperturbed")
    reference = any(group.reference is not None for group in groups)
    axes.set_xlabel(f"{_rates(table)}{dotted if reference else ''}")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(table.title, loc="left", fontsize="medium", wrap=True)
    return figure


def _panel(axes: Axes, table: Table, rows: Sequence[Point], policies: Sequence[str]) -> None:
    """All policies' curves over the same rows, each always in the same colour."""
    for i, policy in enumerate(policies):
        if of_policy := [row for row in rows if row.policy == policy]:
            _curve(axes, of_policy, _with_head(of_policy[0]), i, _aside(i, len(policies)))
    points = {row.demos: point for row in rows if (point := table.reference_of(row)) is not None}
    if points:
        demos = sorted(points)
        rates = [points[n].success_rate for n in demos]
        axes.plot(demos, rates, label="reference", **_REFERENCE)
    _dress(axes, table.rows)


def _dress(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_xticks(sorted({row.demos for row in rows}))
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Axes, table: Table) -> None:
    axes.set_xlabel("demonstrations of the task on the new robot")
    axes.set_ylabel(_rates(table))


def _rates(table: Table) -> str:
    """What the points and bars are; of several trainings, also which claim the bars support."""
    several = any(row.uncertainty.trainings > 1 for row in table.rows)
    return f"success rate, with 95 % intervals{' (as trained)' if several else ''}"


def _curve(axes: Axes, rows: Sequence[Point], label: str, number: int, sidestep: float) -> None:
    rows = sorted((row for row in rows if not isnan(row.rate)), key=lambda row: row.demos)
    rates = [row.rate for row in rows]
    below = [row.rate - row.interval.low for row in rows]
    above = [row.interval.high - row.rate for row in rows]
    axes.errorbar(
        [row.demos + sidestep for row in rows],
        rates,
        yerr=(below, above),
        label=label,
        color=_colour(number),
        marker=_marker(number),
        linestyle="-",
        capsize=3,
    )


def _aside(number: int, curves: int) -> float:
    return (number - (curves - 1) / 2) * _SIDESTEP


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _marker(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]


def _with_head(point: Point) -> str:
    return f"{point.policy} ({point.head} head)" if point.head else point.policy


def _short(env_id: str) -> str:
    """ "Stack, Panda" of "octo_bench/Stack-Panda-v1"."""
    return ", ".join(env_id.partition("/")[2].split("-")[:2])
