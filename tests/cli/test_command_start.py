"""How the command line starts: what it says first, and that it says it at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

import octo_bench
from octo_bench.cli import run

HEAVY = ("torch", "transformers", "robosuite", "mujoco", "scipy", "pandas", "pyarrow", "matplotlib")
ROLLOUT = ["--episodes", "1", "--out", "records.parquet"]


def test_without_a_command_it_says_what_to_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    said = capsys.readouterr().out
    assert "octo-bench envs" in said
    assert "octo-bench reproduce quick" in said
    lines = said.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"octo-bench {octo_bench.__version__}\n"


@pytest.mark.parametrize("arguments", [["-h"], ["watch", "-h"]])
def test_short_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 0, "octo-bench envs"),
        (["--help"], 0, "Usage:"),
        (["envs"], 0, "octo_bench/Stack-Panda-v1"),
        (["policies"], 0, "octo-tiny"),
        (["evaluate", "octo-tyni", "Lift-Panda", *ROLLOUT], 2, "did you mean octo-tiny?"),
        (["evaluate", "octo-tiny", "Lift-Pnda", *ROLLOUT], 2, "unknown environment"),
        (["evaluate", "octo-tiny", "Lift-Panda", *ROLLOUT, "--suite", "lihgt"], 2, "unknown suite"),
        (["watch", "octo-tyni", "Lift-Panda", "--out", "film.mp4"], 2, "did you mean octo-tiny?"),
        (["regress", "octo-tyni", "--baseline", "x.parquet"], 2, "did you mean octo-tiny?"),
    ],
)
def test_nothing_heavy_is_imported_to_answer(arguments: list[str], code: int, said: str) -> None:
    program = (
        "import sys\n"
        "from octo_bench.cli import run\n"
        "code = run(sys.argv[1:])\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"
