"""A sample of the mutated inputs of `fuzz_inputs.py`: every command and file type, a few times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fuzz_inputs import CASES


def test_no_mutated_input_ends_in_a_traceback_or_hangs(tmp_path: Path) -> None:
    log = tmp_path / "cases.jsonl"
    # In a process of its own: it divides itself, which one with gigabytes may not do.
    arguments = ["--cases", str(3 * len(CASES)), "--seed", "20261124", "--log", str(log)]
    script = Path(__file__).with_name("fuzz_inputs.py")
    ran = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(results) == 3 * len(CASES)
    refused = Counter(result["kind"] for result in results if result["code"] == 2)
    assert refused.keys() == {case.kind for case in CASES}
