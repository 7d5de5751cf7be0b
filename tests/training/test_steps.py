"""Optimiser steps where none are declared for a number of demonstrations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from octo_bench.training.steps import FEWEST, steps_for


def test_declared_steps_are_taken_as_they_are() -> None:
    declared = {50: 7, 100: 5}
    assert [steps_for(demos, declared) for demos in declared] == [7, 5]


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_more_demonstrations_take_more_steps(one: int, other: int) -> None:
    fewer, more = sorted((one, other))
    assert FEWEST <= steps_for(fewer) <= steps_for(more)


def test_between_and_beyond_what_is_declared() -> None:
    few_to_many = {1: 101, 3: 193, 20: 585, 70: 1218, 150: 2022, 400: 4167}
    assert {demos: steps_for(demos) for demos in few_to_many} == few_to_many
    assert steps_for(20, {50: 1000}) == 1000
    assert steps_for(100, {50: 4, 200: 16}) == 8
    assert steps_for(25, {50: 4, 200: 16}) == 4  # no fewer than are declared
