"""What all tests share."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
from collections.abc import Iterator

import pytest

import octo_bench  # noqa: F401  (before a test loads NumPy: it pins the instruction set)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell starts what it runs in the background. Programs that the tests start would inherit
    # it, and not hear the Ctrl-C that they are tested with.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def memory_is_given_back() -> Iterator[None]:
    """Free a file's environments, 250 MB each, before the next file's: a process tests many."""
    yield
    batches = sys.modules.get("octo_bench.rollouts.batches")
    if batches is not None:
        batches.discard_environments()
        batches.forget_agents()
    gc.collect()
    if sys.platform == "linux":
        # The C library keeps what was freed; it is needed by the other processes.
        ctypes.CDLL(None).malloc_trim(0)
