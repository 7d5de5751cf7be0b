"""Texts use the field's terms: words that were replaced do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REPLACED = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bunfit\b": "invalid",
    r"says? nothing with": "has no effect with",
    r"scripted demonstrator": "scripted expert",
    r"how (a|the) policy (is|was) asked": "inference options",
    r"files of before": "older files",
    r"is no (file|folder|number|readable)": "is not a",
    r"\bthe tool frame\b": "the end-effector frame",
    r"published (rate|table|training)": "reference",
    r"breaks off, or a process": "is interrupted",
}
"""What is to be written instead, by what is not."""


def texts() -> list[Path]:
    """Code, templates and pages that people read."""
    return sorted(
        [
            *ROOT.glob("octo_bench/**/*.py"),
            *ROOT.glob("octo_bench/*/templates/*"),
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("examples/*"),
            *ROOT.glob("policies/*/README.md"),
            *ROOT.glob("results/**/README.md"),
        ]
    )


@pytest.mark.parametrize("pattern", REPLACED, ids=REPLACED.values())
def test_replaced_words_do_not_come_back(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line, re.IGNORECASE)
    ]
    assert found == []
