"""A success rate where some episodes died of an infrastructure error."""

from __future__ import annotations

from dataclasses import dataclass

from octo_bench.statistics.intervals import Interval, clopper_pearson


@dataclass(frozen=True)
class Completion:
    """Episodes counted by how they ended: `successes` of those `completed`, and `errors` besides.

    The rate of the completed episodes is right if errors strike without regard to what the
    episode would have come to. If they do not, for instance because long episodes run out of
    memory, nothing but the worst and the best case is certain: every error a failure, every
    error a success.

    Source of the bounds: C. F. Manski, "Nonparametric bounds on treatment effects", American
    Economic Review 80 (1990), 319-323: an unknown binary outcome is bounded by 0 and 1.

    Raises:
        ValueError: unless `0 <= successes <= completed` and `errors >= 0`.
    """

    successes: int
    completed: int
    errors: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.successes <= self.completed and self.errors >= 0):
            raise ValueError(
                f"{self.successes} successes in {self.completed} completed episodes "
                f"and {self.errors} errors"
            )

    @property
    def episodes(self) -> int:
        """All that were started."""
        return self.completed + self.errors

    @property
    def error_share(self) -> float:
        """Errors by episodes; 0 without episodes."""
        return self.errors / self.episodes if self.episodes else 0.0

    @property
    def rate(self) -> float:
        """Successes by completed episodes; not a number without any."""
        return self.successes / self.completed if self.completed else float("nan")

    @property
    def worst(self) -> float:
        """The rate with every error counted as a failure; not a number without episodes."""
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def best(self) -> float:
        """The rate with every error counted as a success; not a number without episodes."""
        return (self.successes + self.errors) / self.episodes if self.episodes else float("nan")

    def interval(self, confidence: float = 0.95) -> Interval:
        """Clopper-Pearson of the completed episodes."""
        return clopper_pearson(self.successes, self.completed, confidence)

    def bounds(self, confidence: float = 0.95) -> Interval:
        """From the lower limit of the worst case to the upper limit of the best case.

        It covers the rate that would have been seen without errors with at least `confidence`,
        whatever the errors have to do with the outcome: each limit misses with probability
        (1 - confidence) / 2 at most, as each does for its own case, and the cases enclose it.
        """
        worst = clopper_pearson(self.successes, self.episodes, confidence)
        best = clopper_pearson(self.successes + self.errors, self.episodes, confidence)
        return Interval(worst.low, best.high)
