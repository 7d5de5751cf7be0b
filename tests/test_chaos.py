"""A few of the trials of `chaos.py`: kills, stops, Ctrl-C and SIGTERM at random moments."""

from __future__ import annotations

import chaos
import pytest


def test_what_a_disturbed_command_leaves_is_what_an_undisturbed_one_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = chaos.main(["--trials", "4", "--seed", "1", "--only", "evaluate", "freeze"])
    assert not failed, capsys.readouterr().out
