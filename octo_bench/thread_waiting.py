"""How PyTorch's threads wait for each other, which is decided before PyTorch is loaded."""

from __future__ import annotations

import os

POLICY = "OMP_WAIT_POLICY"
_CHOICES = (POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has chosen otherwise.

    By default they spin. Where another process holds a core, the thread that spins keeps its core
    from the one that it waits for: a call of Octo small with two threads then takes two to ten
    times as long. Which thread computes what does not change, nor do the results.

    OpenMP reads this once, when it is loaded: nothing changes if PyTorch was imported before.
    """
    if not any(choice in os.environ for choice in _CHOICES):
        os.environ[POLICY] = "PASSIVE"
