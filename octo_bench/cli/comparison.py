"""Commands that compare policies by their episodes: `compare`, `regress`, `bisect`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octo_bench.cli.arguments import CORES, AsJson, EnvIds, Policy, Workers, refuse_idle
from octo_bench.cli.exits import FAILED, UNDECIDED, require_few_errors
from octo_bench.cli.printing import print_markdown, print_rows
from octo_bench.errors import OctoBenchError

if TYPE_CHECKING:
    from octo_bench.comparison.golden import GoldenCheck
    from octo_bench.comparison.matching import EpisodeSet
    from octo_bench.comparison.regression import Regression
    from octo_bench.statistics.sequential import GateDesign, Verdict


class SuccessMeasure(StrEnum):
    """What --success takes."""

    HELD = "held"
    ONCE = "once"


_BEFORE_EPISODES = "Golden answers"
_KEPT = "What is written"
_GUARANTEES = "What is guaranteed"

Baseline = Annotated[
    list[Path],
    typer.Option(
        metavar="RECORDS",
        help="Record file of the baseline, from `octo-bench evaluate`; may be repeated for more "
        "environments.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Use only these episodes, such as demos=50 or head=diffusion; may be repeated.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        help="Package whose version may differ, such as torch, to measure the effect of an "
        "upgrade; `code` for the code of octo-bench.",
    ),
]
Success = Annotated[
    SuccessMeasure,
    typer.Option(
        rich_help_panel=_GUARANTEES,
        help="Which success counts: that it held for 20 steps, or that it was reached once.",
    ),
]
OrderSeed = Annotated[
    int | None,
    typer.Option(
        min=0,
        rich_help_panel=_GUARANTEES,
        help="Seed of the order in which pairs count, to repeat a run; drawn anew if not given.",
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        min=0.001, max=0.999, rich_help_panel=_GUARANTEES, help="Loss of success rate to rule out."
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=1e-6,
        max=0.5,
        rich_help_panel=_GUARANTEES,
        help="Largest probability of `worse` when nothing was lost.",
    ),
]
Beta = Annotated[
    float,
    typer.Option(
        min=1e-6,
        max=0.5,
        rich_help_panel=_GUARANTEES,
        help="Largest probability of `no worse` when the margin was lost.",
    ),
]
Budget = Annotated[
    int,
    typer.Option(min=1, rich_help_panel=_GUARANTEES, help="Most episodes to roll out."),
]


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A.parquet", help="Record file of the first policy.")
    ],
    b: Annotated[
        Path, typer.Argument(metavar="B.parquet", help="Record file of the second policy.")
    ],
    env: EnvIds = None,
    where_a: Where = None,
    where_b: Where = None,
    dispersion: Annotated[
        bool,
        typer.Option(
            "--dispersion",
            help="Also measure how much both policies' actions vary in the same states.",
        ),
    ] = False,
    allow: Allow = None,
    success: Annotated[
        SuccessMeasure | None,
        typer.Option(
            help="Which success counts; `held` where both files have it.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two policies, or two heads, episode by episode on the same initial states.

    Prints success with a paired test, steps, stages reached, latency, jerk, and the outcome
    changes. A difference is B minus A. To compare within a study, name its file twice and select
    with --where-a and --where-b.
    """
    from octo_bench.comparison.two_policies import compare as compare_episodes
    from octo_bench.files import require_new, require_writable, write_text
    from octo_bench.reports.comparison import as_json as comparison_json
    from octo_bench.reports.comparison import text

    if out is not None:
        require_writable(out)
        require_new(out)
    first = _episodes([a], env, where_a)
    second = _episodes([b], env, where_b)
    comparison = compare_episodes(first, second, allow or (), success and success.value)
    if dispersion:
        from octo_bench.comparison.dispersion import with_dispersion

        try:
            comparison = with_dispersion(comparison, first, second)
        except OctoBenchError as error:
            print(f"dispersion is left out: {error}", file=sys.stderr)
    if out is not None:
        write_text(out, text(comparison))
    if as_json:
        print(json.dumps(comparison_json(comparison), indent=2))
    else:
        print_markdown(text(comparison))


def regress(
    context: typer.Context,
    policy: Policy,
    baseline: Baseline,
    env: EnvIds = None,
    where: Where = None,
    margin: Margin = 0.10,
    alpha: Alpha = 0.05,
    beta: Beta = 0.05,
    budget: Budget = 200,
    success: Success = SuccessMeasure.HELD,
    order_seed: OrderSeed = None,
    write_golden: Annotated[
        bool,
        typer.Option(
            "--write-golden",
            rich_help_panel=_BEFORE_EPISODES,
            help="POLICY is the baseline: store some of its actions beside (the first) RECORDS, "
            "then exit.",
        ),
    ] = False,
    golden_only: Annotated[
        bool,
        typer.Option(
            "--golden-only",
            rich_help_panel=_BEFORE_EPISODES,
            help="Compare golden answers only, without rollouts: exit 0 if all agree, otherwise 3.",
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            rich_help_panel=_BEFORE_EPISODES,
            help="Largest difference of actions that counts as agreement.",
        ),
    ] = 1e-5,
    out: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_KEPT, help="Parquet file for the new episodes."),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_KEPT, help="JUnit XML file for the verdict; replaced if it is there."
        ),
    ] = None,
    films: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_KEPT,
            help="Folder for films of the episodes whose outcome changed.",
        ),
    ] = None,
    baseline_policy: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            rich_help_panel=_KEPT,
            help="With --films: the baseline policy, to film it beside the new one.",
        ),
    ] = None,
    allow: Allow = None,
    workers: Workers = CORES,
    as_json: AsJson = False,
) -> None:
    """Is a policy worse than the baseline? A gate for continuous integration.

    Rolls out POLICY on the baseline's initial states until the answer is known. Exit codes: 0 no
    worse, 1 worse, 3 cannot tell within the budget, 4 invalid run (too many infrastructure
    errors), 70 an error of octo-bench itself. A gate that was stopped starts again.
    """
    from octo_bench.comparison.golden import check_golden, golden_path, read_golden
    from octo_bench.comparison.golden import record_golden as answers_of
    from octo_bench.comparison.golden import write_golden as keep
    from octo_bench.comparison.regression import regress as run_gate
    from octo_bench.records.record import write_records
    from octo_bench.reports.gate import golden_json, say_golden
    from octo_bench.tables.table import summarise

    if write_golden:
        refuse_idle(context, "golden_only", "out", "junit", "films", where="with --write-golden")
    if golden_only:
        refuse_idle(context, "out", "junit", "films", where="with --golden-only")
    if films is None:
        refuse_idle(context, "baseline_policy", where="without --films")
    _require_places(out, junit, films)
    design = _design(margin, alpha, beta, budget)
    episodes = _episodes(baseline, env, where)
    golden = golden_path(baseline[0])
    if write_golden:
        keep(answers_of(policy, episodes), golden)
        print(f"{golden}: what {policy} does in some states of {episodes.name}")
        return
    check = None
    if golden_only or golden.exists():
        check = check_golden(policy, read_golden(golden), tolerance)
        if not as_json:
            print(say_golden(check), flush=True)
    if golden_only:
        if as_json:
            print(json.dumps(golden_json(check), indent=2))
        raise typer.Exit(0 if check.agrees else UNDECIDED)
    regression = run_gate(
        policy,
        episodes,
        design,
        allow=allow or (),
        measure=success.value,
        order_seed=order_seed,
        workers=workers,
    )
    if out is not None:
        write_records(regression.records, out, regression.provenance)
    rows = summarise(regression.records, {}, success.value)
    if junit is not None:
        from octo_bench.reports.junit import write_junit

        write_junit(regression, check, junit, invalid=any(row.invalid for row in rows))
    filmed = [] if films is None else _film(regression, episodes, baseline_policy, films, workers)
    _print_gate(regression, check, filmed, as_json)
    require_few_errors(rows)
    raise typer.Exit(_exit_code(regression.verdict))


def bisect(
    checkpoints: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT...", help="Policies, oldest first."),
    ],
    baseline: Baseline,
    env: EnvIds = None,
    where: Where = None,
    margin: Margin = 0.10,
    alpha: Alpha = 0.05,
    beta: Beta = 0.05,
    budget: Budget = 200,
    success: Success = SuccessMeasure.HELD,
    order_seed: OrderSeed = None,
    allow: Allow = None,
    workers: Workers = CORES,
    as_json: AsJson = False,
) -> None:
    """Find the first checkpoint that is worse than the baseline.

    Each probe is a gate as in `regress`, with its own --budget. All probes together are wrong no
    more often than one gate. Exit codes: 0 the last checkpoint is no worse, 1 a checkpoint is
    worse, 3 cannot tell, 4 invalid run (too many infrastructure errors), 70 an error of
    octo-bench itself.
    """
    from octo_bench.comparison.bisection import bisect as search
    from octo_bench.reports.comparison import bisection_rows, say_bisection
    from octo_bench.tables.table import summarise

    design = _design(margin, alpha, beta, budget)
    episodes = _episodes(baseline, env, where)
    found = search(
        checkpoints,
        episodes,
        design,
        allow=allow or (),
        measure=success.value,
        order_seed=order_seed,
        workers=workers,
    )
    rows = bisection_rows(found)
    if as_json:
        summary = {"first_worse": found.found, "suspects": list(found.suspects)}
        print(json.dumps({**summary, "checkpoints": rows}, indent=2))
    else:
        print_rows(rows, as_json)
        print(say_bisection(found))
    for probe in found.probes.values():
        require_few_errors(summarise(probe.records, {}, success.value))
    raise typer.Exit(_exit_code(found.verdict))


def _episodes(
    paths: Sequence[Path], env: Sequence[str] | None, where: Sequence[str] | None
) -> EpisodeSet:
    from octo_bench.comparison.episode_sets import choose, merge
    from octo_bench.comparison.matching import read_episodes

    conditions = [f"env_id={each}" for each in env or ()] + list(where or ())
    return choose(merge([read_episodes(path) for path in paths]), conditions)


def _require_places(out: Path | None, junit: Path | None, films: Path | None) -> None:
    from octo_bench.files import require_new, require_writable, require_writable_folder

    if out is not None:
        require_writable(out, ".parquet")
        require_new(out)
    if junit is not None:
        require_writable(junit)
    if films is not None:
        require_writable_folder(films)


def _design(margin: float, alpha: float, beta: float, budget: int) -> GateDesign:
    from octo_bench.statistics.sequential import GateDesign

    return GateDesign(margin=margin, alpha=alpha, beta=beta, budget=budget)


def _film(
    regression: Regression,
    baseline: EpisodeSet,
    baseline_policy: str | None,
    folder: Path,
    workers: int,
) -> list[Path]:
    from octo_bench.comparison.regression import inference_of
    from octo_bench.films.outcome_changes import Side, film_flips

    new = Side("new", regression.policy, regression.inference)
    old = baseline_policy and Side("baseline", baseline_policy, inference_of(baseline))
    films, problems = film_flips(
        regression.flips, old or None, new, regression.provenance.study_seed, folder, workers
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    return films


def _print_gate(
    regression: Regression, check: GoldenCheck | None, films: Sequence[Path], as_json: bool
) -> None:
    from octo_bench.reports.gate import (
        INTERVALS,
        flip_lines,
        gate_json,
        gate_rows,
        say_baseline,
        say_guarantee,
        say_verdict,
    )

    if as_json:
        print(json.dumps(gate_json(regression, check, films), indent=2))
        return
    if regression.unchecked:
        print(
            f"{regression.baseline} does not record its definitions and versions, so they were "
            "not checked",
            file=sys.stderr,
        )
    print_rows(gate_rows(regression), as_json)
    for line in flip_lines(regression.flips):
        print(line)
    if films:
        print(f"{films[0].parent}: {len(films)} films")
    print(INTERVALS)
    print(say_baseline(regression))
    print(say_guarantee(regression))
    print(say_verdict(regression))


def _exit_code(verdict: Verdict) -> int:
    from octo_bench.statistics.sequential import Verdict

    return {Verdict.NO_WORSE: 0, Verdict.WORSE: FAILED, Verdict.CANNOT_TELL: UNDECIDED}[verdict]
