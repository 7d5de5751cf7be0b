"""Tests of checkpoints in three lines, for projects that use pytest.

    def test_my_checkpoint_has_not_regressed(octo_bench):
        octo_bench.assert_no_worse("checkpoints/new", baseline="baseline.parquet")

The fixture does all of it; the marker of the same name sets what it does by default, and selects
or leaves out such tests (`-m "not octo_bench"`). Nothing of octo-bench is imported before a test
asks for something.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from octo_bench.comparison.regression import Regression
    from octo_bench.comparison.threshold import Attainment

MARKER = "octo_bench"
_DESIGN = ("margin", "alpha", "beta", "budget")
_ATTAINMENT = {"confidence": 0.95, "episodes": 50}
"""What `assert_succeeds` takes, and what it is where nothing is said."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for all such tests."""
    group = parser.getgroup("octo-bench", "tests of robot policies")
    group.addoption(
        "--octo-bench-workers",
        type=int,
        default=1,
        metavar="N",
        help="Processes that each test of a policy works in.",
    )
    group.addoption(
        "--octo-bench-budget",
        type=int,
        metavar="N",
        help="Episodes that each assertion may roll out at most; fewer where the test says so.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    known = ", ".join((*_DESIGN, *_ATTAINMENT))
    config.addinivalue_line("markers", f"{MARKER}({known}): defaults of the octo_bench fixture.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the fixture, so that `-m` selects them."""
    for item in items:
        if MARKER in getattr(item, "fixturenames", ()) and not item.get_closest_marker(MARKER):
            item.add_marker(MARKER)


@pytest.fixture
def octo_bench(request: pytest.FixtureRequest) -> OctoBench:
    """Asserts about policies; see `OctoBench`."""
    return OctoBench(request)


class OctoBench:
    """What the fixture `octo_bench` gives.

    Relative paths are taken from pytest's root directory. A call's own arguments go before those
    of the closest marker; `--octo-bench-budget` caps the episodes that either asks for.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node
        self._config = request.config
        marker = request.node.get_closest_marker(MARKER)
        self._defaults: dict[str, Any] = dict(marker.kwargs) if marker else {}
        if unknown := sorted(self._defaults.keys() - {*_DESIGN, *_ATTAINMENT}):
            raise pytest.UsageError(f"the marker {MARKER} has no argument '{unknown[0]}'")

    def assert_no_worse(
        self, policy: str | Path, *, baseline: str | Path, **design: float
    ) -> Regression:
        """Fail unless the policy is shown to be no worse than the baseline.

        That it "cannot tell" within the budget is a failure too, and says so.

        Args:
            policy: a folder, or anything else that `octo-bench regress` takes.
            baseline: the baseline's episodes, as `octo-bench evaluate` wrote them.
            design: margin, alpha, beta, budget; see `GateDesign`.
        """
        from octo_bench.comparison.matching import read_episodes
        from octo_bench.comparison.regression import regress
        from octo_bench.reports.gate import (
            flip_lines,
            say_baseline,
            say_guarantee,
            say_verdict,
        )
        from octo_bench.statistics.sequential import GateDesign, Verdict
        from octo_bench.tables.table import summarise

        asked = GateDesign(**self._chosen(_DESIGN, design))
        with _mistakes_in_a_line():
            result = regress(
                self._found(policy),
                read_episodes(self._config.rootpath / baseline),
                replace(asked, budget=self._capped(asked.budget)),
                workers=self._config.getoption("octo_bench_workers"),
                progress=False,
            )
        self._report(
            verdict=str(result.verdict),
            pairs=result.pairs,
            errors=result.errors,
            order_seed=result.order_seed,
        )
        if any(row.invalid for row in summarise(result.records, {})):
            pytest.fail(f"{result.errors} episodes ended in an infrastructure error", pytrace=False)
        if result.verdict is not Verdict.NO_WORSE:
            lines = [say_verdict(result), say_baseline(result), say_guarantee(result)]
            lines += flip_lines(result.flips)
            pytest.fail("\n".join(lines), pytrace=False)
        return result

    def assert_succeeds(
        self, policy: str | Path, env: str, *, at_least: float, **test: float
    ) -> Attainment:
        """Fail unless the policy is shown to succeed at least so often.

        Args:
            policy: a folder, or anything else that `octo-bench evaluate` takes.
            env: an environment id.
            at_least: the success rate, in (0, 1).
            test: confidence (0.95) and episodes (50); it ends early once it is settled. With too
                few episodes to show it, `--octo-bench-budget` perhaps, the assertion fails.
        """
        from octo_bench.comparison.threshold import attain, successes_needed

        chosen = {**_ATTAINMENT, **self._chosen(_ATTAINMENT, test)}
        chosen["episodes"] = self._capped(chosen["episodes"])
        with _mistakes_in_a_line(ValueError):
            successes_needed(chosen["episodes"], at_least, chosen["confidence"])
        with _mistakes_in_a_line():
            result = attain(
                self._found(policy),
                env,
                at_least,
                **chosen,
                workers=self._config.getoption("octo_bench_workers"),
                progress=False,
            )
        self._report(successes=result.successes, failures=result.failures, errors=result.errors)
        if not result.shown:
            pytest.fail(str(result), pytrace=False)
        return result

    def _chosen(self, names: Collection[str], given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, with the marker's where it has none."""
        if unknown := sorted(given.keys() - set(names)):
            raise TypeError(f"unexpected argument '{unknown[0]}'; there are {', '.join(names)}")
        return {**{k: v for k, v in self._defaults.items() if k in names}, **given}

    def _capped(self, episodes: int) -> int:
        """So many episodes, or what `--octo-bench-budget` allows if that is less."""
        budget = self._config.getoption("octo_bench_budget")
        return episodes if budget is None else min(episodes, budget)

    def _found(self, policy: str | Path) -> str:
        """A policy folder under the root directory; else the name as it is."""
        folder = self._config.rootpath / policy
        return str(folder) if folder.is_dir() else str(policy)

    def _report(self, **found: object) -> None:
        """Put numbers into the JUnit report of the test."""
        self._node.user_properties += [(f"octo_bench.{k}", v) for k, v in found.items()]


@contextmanager
def _mistakes_in_a_line(*others: type[Exception]) -> Iterator[None]:
    """Let a test fail with the one line that a user's mistake is, and no traceback.

    Args:
        others: what is a mistake here beside octo-bench's own errors.
    """
    from octo_bench.errors import OctoBenchError

    try:
        yield
        return
    except (OctoBenchError, *others) as error:
        line = str(error)
    pytest.fail(line, pytrace=False)
