"""What commands print: Markdown is laid out for people, and kept for files and programs."""

from __future__ import annotations

import sys

import pytest

from octo_bench.cli.printing import print_markdown

TEXT = "# Title\n\n| name | rate |\n| --- | --- |\n| tiny | 82 % |\n"


def test_markdown_is_kept_where_a_program_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_markdown(TEXT)
    assert capsys.readouterr().out == TEXT + "\n"


def test_markdown_is_laid_out_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_markdown(TEXT)
    said = capsys.readouterr().out
    assert "82 %" in said
    assert "---" not in said
    assert "|" not in said
