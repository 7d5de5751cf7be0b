"""The figure of a study: success against demonstrations, with the published points."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from octo_bench.files import atomic_path
from octo_bench.reports.table import Row, Table

# Okabe and Ito's colours, told apart with any colour vision; markers differ too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_REFERENCE_COLOUR = "#555555"
_SIDESTEP = 1.5  # demonstrations between the error bars of two curves


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
    """Success rate against demonstrations, a curve for each policy and environment."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    curves: dict[tuple[str, str], list[Row]] = {}
    environments = {row.env_id for row in table.rows}
    beside = [row for row in table.beside if row.env_id in environments]
    for row in (*table.rows, *beside):
        curves.setdefault((row.policy, row.env_id), []).append(row)
    for i, ((policy, env_id), rows) in enumerate(curves.items()):
        sidestep = (i - (len(curves) - 1) / 2) * _SIDESTEP
        _curve(axes, rows, f"{policy}, {_short(env_id)}", i, sidestep)
    references = list(table.references.values())
    for i, reference in enumerate(references):
        if reference not in references[:i]:
            demos = sorted(reference)
            rates = [reference[n].success_rate for n in demos]
            style = {"color": _REFERENCE_COLOUR, "linestyle": ":", "marker": "x", "zorder": 1}
            axes.plot(demos, rates, label="published", **style)

    ticks = sorted({row.demos for row in table.rows})
    axes.set_xticks(ticks)
    axes.set_xlabel("demonstrations of the task on the new robot")
    axes.set_ylabel("success rate, with 95 % intervals")
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(table.title, loc="left", fontsize="medium", wrap=True)
    axes.legend(frameon=False, loc="lower right", fontsize="small")
    return figure


def _curve(axes: Axes, rows: list[Row], label: str, number: int, sidestep: float) -> None:
    rows = sorted(rows, key=lambda row: row.demos)
    rates = [row.rate for row in rows]
    below = [row.rate - row.interval.low for row in rows]
    above = [row.interval.high - row.rate for row in rows]
    axes.errorbar(
        [row.demos + sidestep for row in rows],
        rates,
        yerr=(below, above),
        label=label,
        color=_COLOURS[number % len(_COLOURS)],
        marker=_MARKERS[number % len(_MARKERS)],
        linestyle="-",
        capsize=3,
    )


def _short(env_id: str) -> str:
    """ "Stack, Panda" of "octo_bench/Stack-Panda-v0"."""
    return ", ".join(env_id.partition("/")[2].split("-")[:2])
