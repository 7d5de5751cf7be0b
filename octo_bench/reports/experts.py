"""The table of how often the scripted experts succeed, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from octo_bench.definitions.environments import Environment
from octo_bench.definitions.support import REQUIRED_SUCCESS, Demonstrated, support_in
from octo_bench.files import write_text

PAGE = "README.md"
TITLE = "# Success of the scripted experts"


def write_demonstrators(
    path: Path, rows: Mapping[str, Demonstrated], declared: Sequence[Environment]
) -> None:
    """Write the page: tasks down, embodiments across, then what is not supported, and why."""
    measured = [each for each in declared if each.id in rows]
    enough = [each for each in measured if rows[each.id].rate >= REQUIRED_SUCCESS]
    seeds = sorted({rows[each.id].seeds for each in measured})
    text = "\n".join(
        [
            TITLE,
            "",
            f"By `octo-bench demonstrators`: {' or '.join(map(str, seeds))} seeds per pair, with "
            f"the noise that `collect` adds. Pairs with at least {REQUIRED_SUCCESS:.0%} (in "
            f"bold) are supported: {len(enough)} of {len(measured)} pairs.",
            "",
            *_grid(rows, measured),
            "",
            "## Not supported",
            "",
            *(
                f"- {each.task.name} on {each.embodiment.name}: {support_in(rows, each).reason}"
                for each in measured
                if each not in enough
            ),
            "",
            *_controllers(rows, measured),
        ]
    )
    write_text(path, text)


def _grid(rows: Mapping[str, Demonstrated], declared: Sequence[Environment]) -> list[str]:
    tasks = list(dict.fromkeys(each.task.name for each in declared))
    embodiments = list(dict.fromkeys(each.embodiment.name for each in declared))
    cells = {(each.task.name, each.embodiment.name): rows[each.id] for each in declared}
    lines = [
        f"| Task | {' | '.join(embodiments)} |",
        f"| --- |{' ---: |' * len(embodiments)}",
    ]
    for task in tasks:
        shown = (_cell(cells.get((task, embodiment))) for embodiment in embodiments)
        lines.append(f"| {task} | {' | '.join(shown)} |")
    return lines


def _cell(row: Demonstrated | None) -> str:
    if row is None:
        return ""
    share = f"{row.successes}/{row.seeds}"
    return f"**{share}**" if row.rate >= REQUIRED_SUCCESS else share


def _controllers(rows: Mapping[str, Demonstrated], declared: Sequence[Environment]) -> list[str]:
    """The pairs that were tried with robosuite's own controller too."""
    both = [each for each in declared if rows[each.id].stock_successes >= 0]
    if not both:
        return []
    return [
        "## With robosuite's own controller",
        "",
        'The same seeds with `control="stock"`: `octo-bench demonstrators --stock --env ...`.',
        "",
        "| Pair | compiled | robosuite's |",
        "| --- | ---: | ---: |",
        *(
            f"| {each.task.name} on {each.embodiment.name} | {rows[each.id].successes} | "
            f"{rows[each.id].stock_successes} |"
            for each in both
        ),
        "",
    ]
