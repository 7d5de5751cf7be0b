"""A few of the trials of `chaos.py`: signals at random moments to an evaluation on two workers."""

from __future__ import annotations

import pytest

import chaos


def test_what_a_disturbed_command_leaves_is_what_an_undisturbed_one_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = chaos.main(["--trials", "3", "--seed", "158", "--only", "evaluate"])
    assert not failed, capsys.readouterr().out
