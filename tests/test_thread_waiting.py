"""Threads that wait for each other sleep, so that a busy neighbour does not slow them down."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("chosen", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")],
)
def test_openmp_is_told_how_to_wait_before_it_is_loaded(
    chosen: dict[str, str], policy: str
) -> None:
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    environ |= {**chosen, "OMP_DISPLAY_ENV": "TRUE"}
    shown = subprocess.run(
        [sys.executable, "-c", "import octo_bench, torch"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert f"OMP_WAIT_POLICY = '{policy}'" in shown
