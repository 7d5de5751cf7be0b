"""The pytest plugin: three-line tests of checkpoints, run by pytest itself."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import octo_bench.agents.octo
import octo_bench.comparison.regression
import octo_bench.reports.gate  # noqa: F401  pytester forgets modules that are new to it
from octo_bench.comparison.threshold import successes_needed
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import write_records
from octo_bench.rollouts.evaluate import evaluate
from octo_bench.statistics.intervals import clopper_pearson

pytest_plugins = "pytester"

# By its own name only: the entry point would load it a second time.
LOADED = ("-p", "no:octo_bench", "-p", "pytest_octo_bench")
LIFT = "octo_bench/Lift-Panda-v1"


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripted expert's episodes."""
    records = evaluate("expert", LIFT, 44, progress=False)
    path = tmp_path_factory.mktemp("baseline") / "baseline.parquet"
    write_records(records, path, provenance_of(records, 0))
    return path


def run_tests(
    pytester: pytest.Pytester, tests: str, baseline: Path | None = None, *options: str
) -> pytest.RunResult:
    """Run a file of tests that is called test_it.py, the baseline beside it."""
    pytester.makepyfile(test_it=tests)
    if baseline is not None:
        (pytester.path / "baseline.parquet").write_bytes(baseline.read_bytes())
    return pytester.runpytest_inprocess(*LOADED, "--strict-markers", *options)


def test_three_lines_tell_that_nothing_has_regressed(
    pytester: pytest.Pytester, baseline: Path
) -> None:
    tests = """
        def test_mine(octo_bench):
            found = octo_bench.assert_no_worse("expert", baseline="baseline.parquet")
            assert found.pairs == found.places[0].same_courses
    """
    result = run_tests(pytester, tests, baseline, "--junitxml=junit.xml")
    result.assert_outcomes(passed=1)
    properties = ElementTree.parse(pytester.path / "junit.xml").findall(".//property")
    found = {each.get("name"): each.get("value") for each in properties}
    assert found["octo_bench.verdict"] == "no worse"


def test_a_policy_that_is_worse_fails_and_the_episodes_are_listed(
    pytester: pytest.Pytester, baseline: Path
) -> None:
    tests = """
        def test_mine(octo_bench):
            octo_bench.assert_no_worse("random", baseline="baseline.parquet")
    """
    result = run_tests(pytester, tests, baseline)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*WORSE: the success rate fell in *", "*Lift-Panda-v1 episode *: success after * -> fai*"]
    )
    assert "Traceback" not in result.stdout.str()


def test_what_cannot_be_told_fails_and_says_so(pytester: pytest.Pytester, baseline: Path) -> None:
    tests = """
        import pytest

        @pytest.mark.octo_bench(budget=200, margin=0.2)
        def test_mine(octo_bench):
            octo_bench.assert_no_worse("expert", baseline="baseline.parquet")
    """
    result = run_tests(pytester, tests, baseline, "--octo-bench-budget", "4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CANNOT TELL: neither a loss nor that it is below 20 points*"])


def test_the_budget_caps_and_never_raises(pytester: pytest.Pytester, baseline: Path) -> None:
    tests = """
        import pytest

        @pytest.mark.octo_bench(budget=4, episodes=6)
        def test_of_a_baseline(octo_bench):
            octo_bench.assert_no_worse("expert", baseline="baseline.parquet")

        @pytest.mark.octo_bench(budget=4, episodes=6)
        def test_of_a_rate(octo_bench):
            found = octo_bench.assert_succeeds("expert", "Lift-Panda", at_least=0.5)
            assert found.episodes == 6
    """
    result = run_tests(pytester, tests, baseline, "--octo-bench-budget", "400")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*CANNOT TELL*", "FAILED *test_of_a_baseline*"])


def test_the_budget_caps_the_episodes_of_a_rate(pytester: pytest.Pytester) -> None:
    tests = """
        def test_fine(octo_bench):
            found = octo_bench.assert_succeeds("expert", "Lift-Panda", at_least=0.5)
            assert found.episodes == found.successes == 5

        def test_too_few_to_show_it(octo_bench):
            octo_bench.assert_succeeds("expert", "Lift-Panda", at_least=0.9, episodes=50)
    """
    result = run_tests(pytester, tests, None, "--octo-bench-budget", "5")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*5 episodes cannot show a rate of 90% *"])
    assert "Traceback" not in result.stdout.str()


def test_a_rate_is_shown_or_not(pytester: pytest.Pytester) -> None:
    tests = """
        def test_fine(octo_bench):
            found = octo_bench.assert_succeeds("expert", "Lift-Panda", at_least=0.8, episodes=20)
            assert found.successes == found.needed == 20

        def test_low(octo_bench):
            octo_bench.assert_succeeds("random", "Lift-Panda", at_least=0.5, episodes=20)
    """
    result = run_tests(pytester, tests)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*not shown: random succeeds in 50% of *"])


def test_mistakes_are_one_line(pytester: pytest.Pytester, baseline: Path) -> None:
    tests = """
        import pytest

        def test_policy(octo_bench):
            octo_bench.assert_no_worse("octo-tinny", baseline="baseline.parquet")

        def test_file(octo_bench):
            octo_bench.assert_no_worse("random", baseline="absent.parquet")

        def test_environment(octo_bench):
            octo_bench.assert_succeeds("random", "Lift-Pandaa", at_least=0.5)

        @pytest.mark.octo_bench(margn=0.1)
        def test_marker(octo_bench):
            pass
    """
    result = run_tests(pytester, tests, baseline)
    result.assert_outcomes(failed=3, errors=1)
    for line in ("did you mean octo-tiny", "no such file", "did you mean octo_bench/Lift-Panda"):
        result.stdout.fnmatch_lines([f"*{line}*"])
    result.stdout.fnmatch_lines(["*the marker octo_bench has no argument 'margn'*"])


def test_tests_of_policies_can_be_left_out(pytester: pytest.Pytester) -> None:
    tests = """
        def test_policy(octo_bench):
            octo_bench.assert_succeeds("random", "Lift-Panda", at_least=0.5)

        def test_other():
            pass
    """
    run_tests(pytester, tests, None, "-m", "not octo_bench").assert_outcomes(passed=1, deselected=1)


def test_the_example_is_collected(pytester: pytest.Pytester) -> None:
    example = Path(__file__).parents[1] / "examples" / "test_checkpoint.py"
    pytester.makepyfile(test_checkpoint=example.read_text(encoding="utf-8"))
    result = pytester.runpytest_inprocess(*LOADED, "--strict-markers", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["3 tests collected*"])


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys, pytest, pytest_octo_bench\n"
        "heavy = {'octo_bench', 'gymnasium', 'numpy', 'torch', 'mujoco', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stderr.strip() == ""


def test_pytest_finds_the_plugin_by_itself() -> None:
    (found,) = importlib.metadata.entry_points(group="pytest11", name="octo_bench")
    assert found.value == "pytest_octo_bench"


@pytest.mark.parametrize(("episodes", "rate"), [(20, 0.5), (50, 0.8), (100, 0.9)])
def test_the_successes_needed_are_the_fewest_that_show_it(episodes: int, rate: float) -> None:
    needed = successes_needed(episodes, rate, 0.95)
    assert clopper_pearson(needed, episodes, 0.90).low >= rate
    assert clopper_pearson(needed - 1, episodes, 0.90).low < rate
    with pytest.raises(ValueError, match="not even if all succeed"):
        successes_needed(5, 0.9, 0.95)
