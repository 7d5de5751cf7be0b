"""The condition of an episode: a perturbation of what is seen or said, and inference options.

Episodes of different conditions are never counted together.
"""

from __future__ import annotations

from dataclasses import dataclass

from octo_bench.records.record import EpisodeRecord


@dataclass(frozen=True, order=True)
class Condition:
    """The condition as in the records; the default is unperturbed.

    `suite` and `level` name the perturbation, "" and 0 for none; `inference` names the inference
    options, "" for the default (see `Inference.description`).
    """

    suite: str = ""
    level: int = 0
    inference: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether nothing is perturbed and inference options are the default."""
        return self == PLAIN

    @property
    def name(self) -> str:
        """For headings: "camera, level 2; execute=2"."""
        seen = f"{self.suite}, level {self.level}" if self.suite else "nothing perturbed"
        return f"{seen}; {self.inference.replace(',', ', ')}" if self.inference else seen

    @property
    def short_name(self) -> str:
        """For rows and curves: as `name`, without saying that nothing is perturbed; "plain"."""
        seen = f"{self.suite}, level {self.level}" if self.suite else ""
        asked = self.inference.replace(",", ", ")
        return "; ".join(part for part in (seen, asked) if part) or "plain"


PLAIN = Condition()


def condition_of(record: EpisodeRecord) -> Condition:
    """The condition that an episode was run under."""
    return Condition(record.suite, record.level, record.inference)
