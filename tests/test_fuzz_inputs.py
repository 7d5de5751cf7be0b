"""A sample of the mutated inputs of `fuzz_inputs.py`: every command and file type, a few times."""

from __future__ import annotations

from fuzz_inputs import CASES, fuzz, problem_of


def test_no_mutated_input_ends_in_a_traceback_or_hangs() -> None:
    results = list(fuzz(range(5 * len(CASES)), seed=20_261_124))
    failed = {result["number"]: problem_of(result) for result in results if problem_of(result)}
    assert not failed
    assert {result["kind"] for result in results if result["code"] == 2} == {
        case.kind for case in CASES
    }
