"""Progress in a log is plain lines: no carriage returns, few of them, the last says the end."""

from __future__ import annotations

import pytest

from octo_bench.progress import ProgressBar


def test_in_a_log_it_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(total=500, desc="evaluate Lift") as bar:
        for i in range(500):
            bar.update(1)
            bar.set_postfix(success=f"{i + 1}/{i + 1}")
    said = capsys.readouterr().err
    assert "\r" not in said
    lines = said.splitlines()
    assert len(lines) <= 3
    assert lines[-1].startswith("evaluate Lift: 500 of 500, success=500/500")


def test_what_is_switched_off_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(total=2, desc="quiet", disable=True) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


def test_it_iterates(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(ProgressBar([1, 2, 3], desc="films")) == [1, 2, 3]
    assert capsys.readouterr().err.splitlines()[-1].startswith("films: 3 of 3")
