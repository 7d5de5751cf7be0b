"""The gate's logic, on rollouts that are read off a table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.synthetic_records import LIFT, STACK, episodes_of, made_up, table_of
from octo_bench.agents.inference import DEFAULT
from octo_bench.comparison import bisection, regression
from octo_bench.comparison.bisection import bisect, most_probes
from octo_bench.comparison.episode_sets import choose, merge
from octo_bench.comparison.matching import EpisodeSet
from octo_bench.comparison.regression import Regression, pairs_if_same, regress
from octo_bench.errors import BadInference, Mismatch, UnknownName
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import EpisodeRecord
from octo_bench.reports.comparison import say_bisection
from octo_bench.reports.gate import gate_json, say_baseline, say_guarantee, say_verdict
from octo_bench.reports.junit import write_junit
from octo_bench.statistics.sequential import GateDesign, Verdict, begin, follow

DESIGN = GateDesign()
Outcome = Callable[[EpisodeRecord], EpisodeRecord]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Regression, list]]:
    """Runs the gate on made-up rollouts; also gives what was rolled out."""

    def run(
        baseline: EpisodeSet,
        outcome: Outcome,
        design: GateDesign = DESIGN,
        order_seed: int | None = 0,
        **options: object,
    ):
        asked: list[tuple[str, int]] = []
        monkeypatch.setattr(regression, "roll_shares", table_of(outcome, asked))
        found = regress(
            "random", baseline, design, progress=False, order_seed=order_seed, **options
        )
        return found, asked

    return run


def failing(record: EpisodeRecord) -> EpisodeRecord:
    return made_up(record.episode, False, env_id=record.env_id, policy=record.policy)


def test_a_policy_that_does_the_same_is_no_worse_once_that_is_known(gate) -> None:
    found, asked = gate(episodes_of([True] * 200), lambda record: record)
    assert found.verdict is Verdict.NO_WORSE
    assert found.pairs == pairs_if_same(DESIGN)
    assert len(asked) <= found.pairs + regression.EPISODES_PER_SHARE
    assert found.flips == ()


def test_a_policy_that_fails_is_worse_soon(gate) -> None:
    found, asked = gate(episodes_of([True] * 200), failing)
    assert found.verdict is Verdict.WORSE
    assert len(asked) <= 2 * regression.EPISODES_PER_SHARE
    assert len(found.flips) == found.pairs


def test_episodes_count_in_an_order_drawn_before_they_are_rolled_out(gate) -> None:
    """The rollouts give successes first, which would look like no loss at first."""

    def every_third_fails(record: EpisodeRecord) -> EpisodeRecord:
        return failing(record) if record.episode % 3 == 0 else record

    strict = GateDesign(alpha=1e-6, beta=1e-6)
    found, _ = gate(episodes_of([True] * 60), every_third_fails, strict)
    (place,) = found.places
    order = [new.episode for _, new in place.pairs]
    assert sorted(order) == list(range(60)) and order != list(range(60))
    expected = follow(
        replace(DESIGN, alpha=1e-6, beta=1e-6, budget=60), ((True, k % 3 > 0) for k in order)
    )
    assert place.progress == expected


def test_the_order_is_drawn_anew_and_its_seed_repeats_it(gate) -> None:
    def order(seed: int | None) -> tuple[int, list[int]]:
        found, _ = gate(episodes_of([True] * 60), lambda record: record, order_seed=seed)
        (place,) = found.places
        return found.order_seed, [new.episode for _, new in place.pairs]

    (first, one), (second, other) = order(None), order(None)
    assert first != second and one != other
    assert order(first) == (first, one)
    found, _ = gate(episodes_of([True] * 60), lambda record: record, order_seed=7)
    assert "--order-seed 7" in say_guarantee(found)
    assert "averages over baselines" in say_guarantee(found)


def lost(record: EpisodeRecord) -> EpisodeRecord:
    """It succeeded, but the success did not hold."""
    return replace(record, success_held=False)


def test_success_counts_where_it_held_unless_told(gate) -> None:
    baseline = episodes_of([True] * 100)
    assert gate(baseline, lost)[0].verdict is Verdict.WORSE
    assert gate(baseline, lost, measure="once")[0].verdict is Verdict.NO_WORSE


def test_a_baseline_of_before_success_had_to_hold_is_told_so(gate) -> None:
    old = episodes_of([True] * 100, success_held=None)
    with pytest.raises(Mismatch, match=r"success_held is unknown; .* --success once"):
        gate(old, lambda record: record)
    found, _ = gate(old, lambda record: record, measure="once")
    assert found.verdict is Verdict.NO_WORSE


def test_it_says_whose_baseline_it_is(gate) -> None:
    found, _ = gate(
        episodes_of([True] * 100, policy_fingerprint="a" * 64),
        lambda record: replace(record, policy_fingerprint="b" * 64),
    )
    said = say_baseline(found)
    assert said.startswith("Baseline: octo-tiny (fingerprint aaaaaaaaaaaa), 100 episodes of")
    assert "New: random (fingerprint bbbbbbbbbbbb)" in said
    assert gate_json(found, None)["baseline_fingerprint"] == "a" * 64
    two = [made_up(k, True, policy_fingerprint="ab"[k % 2] * 64) for k in range(20)]
    with pytest.raises(Mismatch, match="episodes of 2 policies"):
        gate(EpisodeSet("baseline", two, None), lambda record: record)


def test_a_baseline_of_other_code_is_refused_unless_told(gate) -> None:
    records = episodes_of([True] * 100).records
    other = replace(provenance_of(records, 0), code="0" * 64)
    baseline = EpisodeSet("baseline", records, other)
    with pytest.raises(Mismatch, match=r"code of octo-bench .* `--allow code`"):
        gate(baseline, lambda record: record)
    found, _ = gate(baseline, lambda record: record, allow=("code",))
    assert found.verdict is Verdict.NO_WORSE


def test_the_budget_is_of_all_environments_together(gate) -> None:
    both = EpisodeSet(
        "baseline",
        [made_up(k, k % 2 == 0, env_id=env) for env in (LIFT, STACK) for k in range(40)],
        None,
    )
    found, asked = gate(both, lambda record: record, GateDesign(budget=50, alpha=1e-9, beta=1e-9))
    assert found.verdict is Verdict.CANNOT_TELL
    assert len(asked) == 50
    assert "use more baseline episodes" in say_verdict(found)


def test_the_next_episodes_go_to_the_undecided_environments(gate) -> None:
    def stack_wavers(record: EpisodeRecord) -> EpisodeRecord:
        return failing(record) if record.env_id == STACK and record.episode % 20 == 0 else record

    records = [made_up(k, True, env_id=env) for env in (LIFT, STACK) for k in range(200)]
    found, asked = gate(EpisodeSet("baseline", records, None), stack_wavers)
    lift, stack = found.places
    assert lift.progress.verdict is Verdict.NO_WORSE
    spent = [sum(env == each for env, _ in asked) for each in (LIFT, STACK)]
    assert spent[0] <= lift.progress.pairs + 2 * regression.EPISODES_PER_SHARE
    assert spent[1] > spent[0]
    assert found.verdict is stack.progress.verdict


def test_worse_in_one_environment_ends_it_and_alpha_is_shared(gate) -> None:
    def only_lift_fails(record: EpisodeRecord) -> EpisodeRecord:
        return failing(record) if record.env_id == LIFT else record

    records = [made_up(k, True, env_id=env) for env in (STACK, LIFT) for k in range(100)]
    found, asked = gate(EpisodeSet("baseline", records, None), only_lift_fails)
    stack, lift = found.places
    assert (str(stack.place), str(lift.place)) == (STACK, LIFT)
    assert found.verdict is lift.progress.verdict is Verdict.WORSE
    assert stack.progress.verdict is Verdict.CANNOT_TELL
    assert lift.progress.design.alpha == DESIGN.alpha / 2
    assert len(asked) < 100
    assert f"fell in {LIFT}" in say_verdict(found)


def test_errors_are_in_no_pair_on_either_side(gate) -> None:
    baseline = episodes_of([True] * 60)
    baseline.records[3] = replace(baseline.records[3], error="lost", success_once=False)

    def sometimes_broken(record: EpisodeRecord) -> EpisodeRecord:
        broken = record.episode % 10 == 5
        return replace(record, error="FatalError", success_once=False) if broken else record

    found, asked = gate(baseline, sometimes_broken)
    (place,) = found.places
    numbers = [new.episode for _, new in place.pairs]
    assert 3 not in dict(asked).values()
    assert not {3, 5, 15, 25} & set(numbers)
    assert found.errors == sum(bool(record.error) for record in found.records) > 0


def test_other_initial_states_are_refused_with_the_key_named(gate) -> None:
    with pytest.raises(Mismatch, match=r"initial_state_sha256 of .*Lift-Panda-v1 episode \d+"):
        gate(episodes_of([True] * 20), lambda r: replace(r, initial_state_sha256="f" * 64))


def test_a_baseline_of_two_policies_is_refused_and_can_be_chosen_from(gate) -> None:
    records = [made_up(k, True, demos=demos) for demos in (0, 50) for k in range(60)]
    both = EpisodeSet("study", records, None)
    with pytest.raises(Mismatch, match="choose the episodes of one policy"):
        gate(both, lambda record: record)
    found, _ = gate(choose(both, ["demos=50"]), lambda record: record)
    assert found.verdict is Verdict.NO_WORSE
    assert found.baseline == "study (demos=50)"


def test_choosing_names_what_there_is() -> None:
    episodes = episodes_of([True] * 3)
    assert len(choose(episodes, ["env_id=Lift-Panda", "demos=0", "demos=50"]).records) == 3
    with pytest.raises(Mismatch, match="no episodes with demos = 50; there are 0"):
        choose(episodes, ["demos=50"])
    with pytest.raises(UnknownName, match="did you mean head"):
        choose(episodes, ["haed=diffusion"])


def test_files_of_several_environments_are_one_baseline(gate) -> None:
    sets = [episodes_of([True] * 50, env, env_id=env) for env in (LIFT, STACK)]
    kept = [replace(each, provenance=provenance_of(each.records, 0)) for each in sets]
    found, _ = gate(merge(kept), lambda record: record)
    assert found.verdict is Verdict.NO_WORSE
    assert [str(place.place) for place in found.places] == [LIFT, STACK]
    assert not found.unchecked
    assert gate(merge([kept[0], sets[1]]), lambda record: record)[0].unchecked
    older = replace(kept[1].provenance, versions={**kept[1].provenance.versions, "torch": "0"})
    with pytest.raises(Mismatch, match="the version of torch"):
        merge([kept[0], replace(kept[1], provenance=older)])
    with pytest.raises(Mismatch, match="study_seed"):
        merge([kept[0], replace(kept[1], provenance=replace(older, study_seed=1))])


def test_a_baseline_asked_in_two_ways_is_refused(gate) -> None:
    records = [made_up(k, True, inference="execute=2" if k else "") for k in range(3)]
    with pytest.raises(Mismatch, match="column inference"):
        gate(EpisodeSet("baseline", records, None), lambda record: record)


def test_the_policy_is_asked_as_the_baseline_was(gate) -> None:
    with pytest.raises(BadInference, match="leave out execute=2"):
        gate(episodes_of([True] * 3, inference="execute=2"), lambda record: record)


def read_junit(path: Path) -> ElementTree.Element:
    """The suite, after checking that all counts are those of the cases."""
    root = ElementTree.parse(path).getroot()
    (suite,) = root
    cases = suite.findall("testcase")
    for element in (root, suite):
        assert int(element.get("tests")) == len(cases)
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.get(name)) == len(suite.findall(f"testcase/{tag}"))
    return suite


def test_junit_tells_the_verdicts_apart(gate, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    worse, _ = gate(episodes_of([True] * 50, name="a\x00b <&>"), failing)
    write_junit(worse, None, path, invalid=False)
    suite = read_junit(path)
    assert suite.get("name") == "random against a?b <&>"
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert (properties["success"], properties["order_seed"]) == ("held", "0")
    failure = suite.find("testcase/failure")
    assert failure.get("message").startswith("worse: ")
    assert re.search(rf"{LIFT} episode \d+: success after \d+ steps -> failed", failure.text)
    write_junit(worse, None, path, invalid=True)
    assert read_junit(path).find("testcase/error") is not None
    short, _ = gate(episodes_of([True] * 5), lambda record: record)
    write_junit(short, None, path, invalid=False)
    assert "cannot tell" in read_junit(path).find("testcase/skipped").get("message")
    fine, _ = gate(episodes_of([True] * 50), lambda record: record)
    write_junit(fine, None, path, invalid=False)
    assert len(read_junit(path).find("testcase")) == 1  # what was measured


def test_json_has_what_was_counted(gate) -> None:
    found, _ = gate(episodes_of([True] * 50), failing)
    said = gate_json(found, None)
    (place,) = said["environments"]
    assert said["verdict"] == place["verdict"] == "worse"
    assert place["only_baseline"] == place["pairs"] == len(said["flips"]) == found.pairs
    assert place["low"] <= place["difference"] == -1.0 < place["high"] < 0.0


VERDICTS = {"+": Verdict.NO_WORSE, "-": Verdict.WORSE, "?": Verdict.CANNOT_TELL}


@pytest.mark.parametrize(
    ("truth", "found", "suspects"),
    [
        ("++++----", "4", "4"),
        ("--------", "0", "0"),
        ("+++++++-", "7", "7"),
        ("-", "0", "0"),
        ("++++++++", None, ""),
        ("+++++++?", None, ""),
        ("+++?----", None, "34"),
        ("++??-", None, "234"),
    ],
)
def test_bisection_finds_the_first_that_is_worse_or_says_what_is_open(
    monkeypatch: pytest.MonkeyPatch, truth: str, found: str | None, suspects: str
) -> None:
    designs: list[GateDesign] = []

    def probe(policy: str, baseline: EpisodeSet, design: GateDesign, **_: object) -> Regression:
        designs.append(design)
        outcome = {"+": (True, True), "-": (True, False), "?": (True, True)}[truth[int(policy)]]
        many = 0 if truth[int(policy)] == "?" else 1000
        progress = follow(replace(design, budget=1000), [outcome] * many) if many else begin(design)
        place = regression.PlaceVerdict(regression.Place(LIFT, "", 0), progress, (), 0)
        return Regression(
            policy=policy,
            baseline="baseline",
            baseline_policy="",
            design=design,
            inference=DEFAULT,
            places=(place,),
            records=(),
            provenance=provenance_of(baseline.records, 0),
            unchecked=False,
            seconds=0.0,
            measure="held",
            order_seed=0,
            baseline_episodes=len(baseline.records),
            fingerprints=("", ""),
        )

    monkeypatch.setattr(bisection, "regress", probe)
    checkpoints = [str(position) for position in range(len(truth))]
    result = bisect(checkpoints, episodes_of([True]), DESIGN)
    assert result.found == found
    assert "".join(result.suspects) == suspects
    assert len(designs) == len(result.probes) <= most_probes(len(truth))
    assert {design.alpha for design in designs} == {DESIGN.alpha / most_probes(len(truth))}
    expected = "worse" if suspects else {"+": "no worse", "?": "cannot tell"}[truth[-1]]
    assert result.verdict == expected
    assert all(each in say_bisection(result) for each in result.suspects)
