"""A sample of the mutated inputs of `fuzz_inputs.py`: every command and file type, a few times."""

from __future__ import annotations

from collections import Counter

from fuzz_inputs import CASES, fuzz, problem_of


def test_no_mutated_input_ends_in_a_traceback_or_hangs() -> None:
    results = list(fuzz(range(3 * len(CASES)), seed=20_261_124))
    failed = {result["number"]: problem_of(result) for result in results if problem_of(result)}
    assert not failed
    refused = Counter(result["kind"] for result in results if result["code"] == 2)
    assert refused.keys() == {case.kind for case in CASES}
