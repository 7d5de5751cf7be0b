"""The fine-tuning table for people, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.standing import Standing
from octo_bench.tables.references import Against
from octo_bench.tables.table import TOLERATED_ERRORS, Mean, Row, Table
from octo_bench.tables.uncertainty import FEWEST_DRAWS
from octo_bench.tables.wording import SUCCESS

Line = Row | Mean


def markdown(table: Table) -> str:
    """The table for people: the mean over all targets, then a section for each environment."""
    lines = [f"# {table.title}", ""]
    if table.finished < table.declared:
        lines += [
            f"**Not finished.** {table.finished} of {table.declared} cells are measured so far; "
            "the same command goes on.",
            "",
        ]
    if any(row.invalid for row in table.rows):
        lines += [
            "**Invalid.** In the rows marked so, more than "
            f"{100 * TOLERATED_ERRORS:.0f} % of the episodes ended in an infrastructure error: "
            "their rates mean nothing. The same command repeats these episodes.",
            "",
        ]
    means = table.means
    if means:
        title = _title(table, means[0].env_id)
        lines += [f"## {title[0].upper()}{title[1:]}", "", *_section(table, means), ""]
    for env_id in dict.fromkeys(row.env_id for row in table.rows):
        rows = [row for row in table.rows if row.env_id == env_id]
        lines += [f"## {_title(table, env_id)}", "", *_section(table, rows), ""]
    several = any(row.uncertainty.trainings > 1 for row in table.rows)
    anew = any(row.uncertainty.trained_anew for row in table.rows)
    lines += [
        f"{SUCCESS[table.measure]} Intervals are Clopper-Pearson, 95 %. "
        "Training is the wall time of one fine-tuning in one process with one thread.",
    ]
    if several:
        lines.append(
            "Where a row has several trainings, measured on the same initial states, the 95 % "
            "interval speaks of these policies as they were trained, and counts as many episodes "
            "as are independent (Korn and Graubard 1998)"
            + ('; "If retrained" is for fine-tuning on other draws.' if anew else ".")
        )
        if any(1 < row.uncertainty.units < FEWEST_DRAWS for row in table.rows):
            lines.append(
                "Two draws of demonstrations are too few for an interval over training anew: that "
                f"takes {FEWEST_DRAWS}."
            )
    if means:
        lines.append(
            "In the mean every target weighs alike; its interval (Zou, Huang and Zhang 2009) is "
            "made of theirs, and speaks of these targets and no others."
        )
    if any(table.reference_of(row) for row in table.rows):
        which = "interval if retrained where there is one, else the " if anew else ""
        lines.append(
            "The reference comes from the brief of the project and has no public source. The last "
            f'column goes by our {which}95 % interval: "{Standing.WITHIN}" if all of it is that '
            f'near to the reference; else "{Standing.ABOVE}" or "{Standing.BELOW}" if all of it is '
            f'on that side; else "{Standing.CANNOT_TELL}".'
        )
    if errors := sum(row.errors for row in table.rows):
        lines.append(
            f"{errors} episodes ended in an infrastructure error and are not counted; the worst "
            "case counts them as failures, the best case as successes."
        )
    return "\n".join(lines) + "\n"


def _title(table: Table, place: str) -> str:
    """The place alone where the rows name their policies."""
    policies = _policies(table)
    return place if len(policies) > 1 else f"{place}, {policies[0]}"


def _policies(table: Table) -> list[str]:
    return list(dict.fromkeys(_policy(row) for row in table.rows))


def _policy(row: Line) -> str:
    return f"{row.policy} ({row.head} head)" if row.head else row.policy


def _section(table: Table, rows: Sequence[Line]) -> list[str]:
    groups: dict[tuple, list[Line]] = {}
    for row in rows:
        groups.setdefault((row.policy, row.head, row.condition), []).append(row)
    ordered = [row for group in groups.values() for row in group]
    shown = [
        policy
        for policy in table.beside_policies()
        if any(table.counterpart(row, policy) for row in rows)
    ]
    named = len(_policies(table)) > 1
    conditions = any(not row.condition.is_plain for row in table.rows)
    bounded = any(row.errors for row in rows)
    compared = any(table.reference_of(row) for row in rows)
    anew = any(row.uncertainty.trained_anew for row in rows)
    words = [*(["Policy"] if named else []), *(["Condition"] if conditions else [])]
    held = table.measure == "held"
    header = [*words, "Demonstrations", "Success held" if held else "Success", "95 % interval"]
    header += ["Reached once"] if held else []
    header += ["If retrained"] if anew else []
    header += ["Errors", "Worst to best case"] if bounded else []
    header += ["Training", *shown]
    if compared:
        header += ["Reference", "Reference training", "Against the reference"]
    numbers = len(header) - len(words)
    lines = [_line(header), _line([*[":---"] * len(words), *["---:"] * numbers])]
    for row in ordered:
        cells = [_policy(row)] if named else []
        cells += [row.condition.short_name] if conditions else []
        cells += [str(row.demos), _rate(row), _between(row.interval)]
        cells += [_once(row)] if held else []
        cells += [_anew(row)] if anew else []
        cells += [_errors(row), _bounds(row)] if bounded else []
        cells.append(_minutes(row.training_minutes))
        for policy in shown:
            other = table.counterpart(row, policy)
            cells.append(f"{_rate(other)}, {_between(other.interval)}" if other else "")
        if compared:
            found = table.against(row)
            cells += [""] * 3 if found is None else _against(found)
        lines.append(_line(cells))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(row: Line) -> str:
    if isnan(row.rate):
        return "no episodes"
    share = f"{100 * row.rate:.0f} %"
    return share if isinstance(row, Mean) else f"{row.successes}/{row.episodes} = {share}"


def _once(row: Line) -> str:
    return "no episodes" if isnan(row.once_rate) else f"{100 * row.once_rate:.0f} %"


def _between(interval: Interval) -> str:
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"


def _anew(row: Line) -> str:
    interval = row.uncertainty.trained_anew
    return "" if interval is None else _between(interval)


def _errors(row: Line) -> str:
    return f"{row.errors}, invalid" if row.invalid else str(row.errors)


def _bounds(row: Line) -> str:
    return f"{100 * row.worst:.0f} to {100 * row.best:.0f} %"


def _against(found: Against) -> list[str]:
    point = found.reference
    rate = f"{100 * point.success_rate:.0f} %"
    return [rate, _minutes(point.training_minutes), str(found.standing)]


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f} min" if 0 < minutes < 10 else f"{minutes:.0f} min"
