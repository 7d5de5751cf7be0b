"""The instruction set is pinned before a library is loaded, whatever the environment says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from octo_bench.portability.pinning import PINNED, can_pin, pin_instruction_set

pytestmark = pytest.mark.skipif(not can_pin(), reason="this is not x86-64 with AVX2")

READ_BACK = """
import json, os, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {first}
    import octo_bench
    from octo_bench.portability import pinning
    import numpy, scipy.linalg, torch
said = [str(each.message) for each in caught if "instruction set" in str(each.message)]
environ = {{name: os.environ.get(name) for name in pinning.PINNED}}
print(json.dumps([environ, pinning.unpinned(), said, os.environ.get("GLIBC_TUNABLES", "")]))
"""


def read_back(first: str = "pass", **environ: str) -> tuple[dict, list, list, str]:
    """What a fresh process says that does `first` before it imports octo_bench."""
    ran = subprocess.run(
        [sys.executable, "-c", READ_BACK.format(first=first)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def test_it_wins_over_the_environment() -> None:
    environ, unpinned, said, _ = read_back(
        OPENBLAS_CORETYPE="Prescott",
        ATEN_CPU_CAPABILITY="default",
        ONEDNN_MAX_CPU_ISA="SSE41",
        MKL_CBWR="SSE4_2",
        NUMBA_CPU_NAME="generic",
    )
    assert environ == PINNED
    assert (unpinned, said) == ([], [])


def test_numpy_and_torch_may_be_there_already() -> None:
    _, unpinned, said, _ = read_back(
        "import numpy, torch; numpy.eye(9) @ numpy.eye(9)", OPENBLAS_CORETYPE="Prescott"
    )
    assert (unpinned, said) == ([], [])


def test_what_came_too_late_is_one_warning() -> None:
    _, unpinned, said, _ = read_back("import torch; torch.eye(9) @ torch.eye(9)", MKL_CBWR="AVX2")
    assert unpinned == ["MKL"]
    (warning,) = said
    assert "too late to pin the instruction set of MKL" in warning
    assert "import octo_bench first" in warning


def test_what_is_hidden_from_the_c_library_is_not_from_processes_that_follow() -> None:
    tunables = "glibc.malloc.check=0:glibc.cpu.hwcaps=-AVX2,-FMA"
    _, unpinned, said, left = read_back(GLIBC_TUNABLES=tunables)
    assert len(unpinned) == len(said) == 1 and "GLIBC_TUNABLES" in unpinned[0]
    assert left == "glibc.malloc.check=0"


def test_repeating_changes_nothing() -> None:
    before = dict(os.environ)
    pin_instruction_set()
    assert dict(os.environ) == before
