"""What results depend on besides the declaration: library versions, and code."""

from __future__ import annotations

from octo_bench.records import provenance
from octo_bench.records.code import COLLECTING, MEASURING, TRAINING, code_sha256

__all__ = ["COLLECTING", "MEASURING", "TRAINING", "versions"]


def versions(entries: tuple[str, ...] = MEASURING) -> dict[str, str]:
    """The versions of libraries, and the hex SHA-256 of some of our code.

    Args:
        entries: modules that a result comes from: `COLLECTING`, `TRAINING` or `MEASURING`.
    """
    return {**provenance.versions(), "octo_bench_sources": code_sha256(entries)}
