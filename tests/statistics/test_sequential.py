"""The gate: its guarantee, checked exactly, and what it says in plain cases."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octo_bench.calibration.gate_operation import Scenario, fixed_size, saving, simulate
from octo_bench.statistics.paired import PairedCounts, tango_interval
from octo_bench.statistics.sequential import (
    GateDesign,
    Verdict,
    advance,
    anytime_interval,
    begin,
    follow,
)

designs = st.builds(
    GateDesign,
    margin=st.floats(0.01, 0.5),
    alpha=st.floats(0.001, 0.3),
    beta=st.floats(0.001, 0.3),
    budget=st.integers(1, 500),
)


@given(designs, st.integers(0, 600), st.floats(0, 1), *[st.floats(-20, 10)] * 2, st.floats(0, 1))
def test_no_capital_is_expected_to_grow_while_its_hypothesis_holds(
    design: GateDesign,
    pairs: int,
    discordant: float,
    log_worse: float,
    log_no_worse: float,
    wins: float,
) -> None:
    """With Ville's inequality this is the whole guarantee: from any state, at any discordance."""

    def expected(chances: dict[int, float], of: int) -> float:
        growth = 0.0
        for difference, chance in chances.items():
            after = advance(
                design,
                log_worse,
                log_no_worse,
                pairs=pairs,
                discordant=int(discordant * pairs),
                difference=difference,
            )
            growth += chance * exp(after[of] - (log_worse, log_no_worse)[of])
        return growth

    # No loss: as likely gained as lost. A loss of just the margin: lost more often by that.
    share = wins / 2
    assert expected({1: share, -1: share, 0: 1 - 2 * share}, of=0) <= 1 + 1e-9
    gained = wins * (1 - design.margin) / 2
    lost = gained + design.margin
    assert expected({1: gained, -1: lost, 0: 1 - gained - lost}, of=1) <= 1 + 1e-9


def test_errors_keep_their_bounds_over_all_paths() -> None:
    design = GateDesign(margin=0.45, alpha=0.2, beta=0.2, budget=8)
    outcomes = {1: (False, True), -1: (True, False), 0: (True, True)}
    paths = list(product(outcomes, repeat=design.budget))
    verdicts = [follow(design, [outcomes[step] for step in path]).verdict for path in paths]
    assert set(verdicts) == set(Verdict)

    def probability(verdict: Verdict, gained: float, lost: float) -> float:
        chances = {1: gained, -1: lost, 0: 1 - gained - lost}
        return sum(
            float(np.prod([chances[step] for step in path]))
            for path, said in zip(paths, verdicts, strict=True)
            if said is verdict
        )

    for gained in (0.0, 0.1, 0.25, 0.5):
        assert probability(Verdict.WORSE, gained, gained) <= 0.2
    for gained in (0.0, 0.1, 0.25):
        assert probability(Verdict.NO_WORSE, gained, gained + 0.45) <= 0.2


def test_a_policy_that_always_agrees_with_the_baseline_is_no_worse_soon() -> None:
    progress = follow(GateDesign(), [(True, True), (False, False)] * 100)
    assert progress.verdict is Verdict.NO_WORSE
    assert progress.pairs == 40
    assert progress.evidence_no_worse >= 20 > progress.evidence_worse


def test_a_policy_that_fails_where_the_baseline_did_not_is_worse_soon() -> None:
    progress = follow(GateDesign(), [(True, False), (True, True), (False, False)] * 60)
    assert progress.verdict is Verdict.WORSE
    assert progress.pairs < 40


def test_the_gate_admits_that_it_cannot_tell() -> None:
    design = GateDesign(margin=0.02, budget=30)
    progress = follow(design, [(True, False), (False, True)] * 100)
    assert progress.verdict is Verdict.CANNOT_TELL
    assert progress.exhausted and not progress.decided and not progress.running
    assert progress.counts == PairedCounts(0, 15, 15, 0)
    with pytest.raises(ValueError, match="over after 30 pairs"):
        progress.after(True, True)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_following_is_feeding_one_by_one(pairs: list[tuple[bool, bool]]) -> None:
    design = GateDesign(budget=50)
    followed = follow(design, pairs)
    by_hand = reduce(
        lambda progress, pair: progress.after(*pair) if progress.running else progress,
        pairs,
        begin(design),
    )
    assert followed == by_hand
    assert type(followed.pairs) is int


def test_numpy_outcomes_are_counted_as_numbers_of_python() -> None:
    progress = begin(GateDesign()).after(np.True_, np.False_)
    assert type(progress.counts.only_a) is int and progress.counts.only_a == 1


@pytest.mark.parametrize(
    "wrong", [{"margin": 0.0}, {"margin": 1.0}, {"alpha": 0.0}, {"beta": 1.5}, {"budget": 0}]
)
def test_impossible_designs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        GateDesign(**wrong)


def test_several_comparisons_share_the_false_alarms() -> None:
    shared = GateDesign(alpha=0.04).shared_by(4)
    assert (shared.alpha, shared.beta) == (0.01, 0.05)


def test_simulated_comparisons_are_the_gate_many_times() -> None:
    design = GateDesign(budget=60)
    scenario = Scenario(0.8, 0.1, "none")
    found = simulate(design, scenario, 40, np.random.default_rng(3))
    # The same draws, pair by pair: one for each comparison that is still running.
    generator = np.random.default_rng(3)
    gates = [begin(design)] * 40
    while running := [index for index, gate in enumerate(gates) if gate.running]:
        for index, chance in zip(running, generator.random(len(running)), strict=True):
            if chance < scenario.only_baseline:
                pair = (True, False)
            elif chance < scenario.discordant:
                pair = (False, True)
            else:
                pair = (True, True)
            gates[index] = gates[index].after(*pair)
    assert [gate.pairs for gate in gates] == found.pairs.tolist()
    assert [gate.verdict is Verdict.WORSE for gate in gates] == found.worse.tolist()
    assert [gate.verdict is Verdict.NO_WORSE for gate in gates] == found.no_worse.tolist()


@pytest.mark.parametrize("agreement", ["complete", "half", "none"])
def test_false_alarms_and_misses_are_rare_with_a_look_after_every_pair(agreement: str) -> None:
    generator = np.random.default_rng(0)
    same = simulate(GateDesign(), Scenario(0.8, 0.0, agreement), 2000, generator)
    assert same.worse.mean() <= 0.05
    worse = simulate(GateDesign(), Scenario(0.8, 0.1, agreement), 2000, generator)
    assert worse.no_worse.mean() <= 0.06  # 5 %, and three standard errors above what is expected
    assert worse.worse.mean() >= 0.55


def test_a_drop_of_20_points_is_found() -> None:
    found = simulate(GateDesign(), Scenario(0.8, 0.2, "none"), 1000, np.random.default_rng(1))
    assert found.worse.mean() >= 0.98
    assert found.pairs.mean() < 80


def test_the_gate_saves_a_third_of_the_pairs_of_a_fixed_test() -> None:
    found = saving(GateDesign(), 0.8, "half", 1000, np.random.default_rng(2))
    assert found.saving > 1 / 3
    assert found.wrong <= 0.06


def test_a_fixed_test_is_enumerated() -> None:
    # Without discordant pairs nobody is worse, and 25 pairs are enough for Tango's score.
    scenario = Scenario(0.5, 0.0, "complete")
    assert fixed_size(GateDesign(), scenario, 24) == (0.0, 0.0)
    assert fixed_size(GateDesign(), scenario, 25) == (0.0, pytest.approx(1.0))
    # Five losses of five are McNemar's least evidence at 5 %, one-sided.
    worse, _ = fixed_size(GateDesign(), Scenario(0.5, 0.1, "complete"), 5)
    assert worse == pytest.approx(0.1**5)


counts = st.builds(PairedCounts, *[st.integers(0, 60)] * 4)


@given(counts)
def test_the_anytime_interval_holds_the_estimate_and_is_wider(counts: PairedCounts) -> None:
    interval = anytime_interval(counts)
    swapped = anytime_interval(
        PairedCounts(counts.both, counts.only_b, counts.only_a, counts.neither)
    )
    assert (swapped.low, swapped.high) == pytest.approx((-interval.high, -interval.low))
    if counts.pairs:
        assert counts.difference in interval
        assert interval.width >= tango_interval(counts).width - 1e-9
    else:
        assert interval.width == 2.0


def test_the_anytime_interval_ends_where_the_capital_reaches_its_target() -> None:
    outcomes = [1] * 9 + [-1] * 3 + [0] * 28
    low = anytime_interval(PairedCounts(28, 3, 9, 0)).low
    capitals = [
        np.prod([1 + stake / (1 + low) * (outcome - low) for outcome in outcomes])
        for stake in np.linspace(0.0125, 0.9875, 40)
    ]
    assert np.mean(capitals) == pytest.approx(2 / 0.05)


def test_the_anytime_interval_holds_at_every_look() -> None:
    generator = np.random.default_rng(4)
    missed = 0
    for _ in range(40):
        steps = generator.choice([1, -1, 0], p=[0.1, 0.2, 0.7], size=150)
        lost, won = np.cumsum(steps == -1), np.cumsum(steps == 1)
        missed += any(
            -0.1 not in anytime_interval(PairedCounts(look - int(b) - int(a), int(a), int(b), 0))
            for look, (a, b) in enumerate(zip(lost, won, strict=True), start=1)
            if look % 10 == 0
        )
    assert missed <= 40 * 0.05
