"""Pins the numeric libraries to one instruction set, so that sums have the same bits everywhere.

NumPy, OpenBLAS, PyTorch, oneDNN, MKL and Numba look at the processor and choose code for it, and
other code rounds otherwise. On x86-64 with AVX2 they are told to take the code for AVX2. They read
that from the environment when they are loaded, so this runs before anything else of the package,
and imports nothing that loads them. Processes that are started later inherit it.

A value that the user has set is replaced: it would change results, and nothing would say so.
Where another value is wanted, the processor's own speed for instance, use another process.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from functools import cache
from pathlib import Path

CORE = "Haswell"
"""What OpenBLAS calls its code for AVX2."""
_MKL_COMPATIBLE = 3
_TUNABLES = "GLIBC_TUNABLES"
_NUMPY_DISABLES = "NPY_DISABLE_CPU_FEATURES"

PINNED = {
    "OPENBLAS_CORETYPE": CORE,
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    # The only branch whose results agree between processors of different makers.
    "MKL_CBWR": "COMPATIBLE",
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_DISABLE_INTEL_SVML": "1",
}
"""Environment variables that decide which code runs, and what they are set to."""

_REMOVED = ("NPY_ENABLE_CPU_FEATURES", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE")
_NUMPY_FEATURES = {
    "AVX512F": "avx512f",
    "AVX512CD": "avx512cd",
    "AVX512_KNL": "avx512er",
    "AVX512_KNM": "avx512_4vnniw",
    "AVX512_SKX": "avx512bw",
    "AVX512_CLX": "avx512_vnni",
    "AVX512_CNL": "avx512ifma",
    "AVX512_ICL": "avx512_vbmi2",
    "AVX512_SPR": "avx512_fp16",
}
"""NumPy's names for what goes beyond AVX2, and the processor's flags that go with them."""


def pin_instruction_set() -> None:
    """Make the libraries that are loaded from now on take their code for AVX2.

    OpenBLAS and MKL choose again if they are loaded already. What cannot be pinned any more is
    said in one warning. Nothing happens on other processors.
    """
    if not can_pin():
        return
    os.environ.update(PINNED)
    for name in _REMOVED:
        os.environ.pop(name, None)
    flags = processor_flags()
    disabled = [name for name, flag in _NUMPY_FEATURES.items() if flag in flags]
    os.environ[_NUMPY_DISABLES] = ",".join(disabled)
    if not disabled:
        del os.environ[_NUMPY_DISABLES]
    if _hides_fma(os.environ.get(_TUNABLES, "")):
        # glibc has read it when this process began; those that are started from here read anew.
        _late.add("the C library, to which GLIBC_TUNABLES hides AVX2 or FMA")
        os.environ[_TUNABLES] = _without_hwcaps(os.environ[_TUNABLES])
    for library in _loaded("openblas"):
        _choose_again(library)
    if late := unpinned():
        warnings.warn(
            "octo_bench was imported too late to pin the instruction set of "
            f"{', '.join(late)}: results can differ from other machines' in the last bits; "
            "import octo_bench first",
            stacklevel=3,
        )


def can_pin() -> bool:
    """Whether this is a Linux x86-64 machine with AVX2 and FMA."""
    return os.uname().machine == "x86_64" and {"avx2", "fma"} <= processor_flags()


@cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, in the words of /proc/cpuinfo; empty where nothing tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def unpinned() -> tuple[str, ...]:
    """The loaded libraries whose instruction set is not the pinned one, read back from them.

    On processors that cannot be pinned it is that processor.
    """
    if not can_pin():
        return (f"this processor ({os.uname().machine} without AVX2)",)
    found = set(_late)
    for library in _loaded("openblas"):
        if _core_name(library) not in (CORE, None):
            found.add("OpenBLAS")
    numpy = sys.modules.get("numpy")
    core = getattr(numpy, "core", None)
    if core is not None:
        features = core._multiarray_umath.__cpu_features__
        if any(features.get(name) for name in _NUMPY_FEATURES):
            found.add("NumPy")
    torch = sys.modules.get("torch")
    if hasattr(torch, "backends"):
        if torch.backends.cpu.get_cpu_capability() != "AVX2":
            found.add("PyTorch")
        for library in _loaded("libtorch_cpu"):
            if library.mkl_serv_cbwr_get(1) != _MKL_COMPATIBLE:
                found.add("MKL")
    return tuple(sorted(found))


_late: set[str] = set()
"""What had been chosen before this process could."""


def _hides_fma(tunables: str) -> bool:
    """Whether glibc's tunables make its mathematical functions do without AVX2 and FMA."""
    hidden = {name.removesuffix("_Usable") for name in _hwcaps(tunables).split(",")}
    return bool({"-AVX2", "-FMA", "-AVX"} & hidden)


def _hwcaps(tunables: str) -> str:
    pairs = (entry.partition("=") for entry in tunables.split(":"))
    return ",".join(value for name, _, value in pairs if name == "glibc.cpu.hwcaps")


def _without_hwcaps(tunables: str) -> str:
    entries = tunables.split(":")
    return ":".join(each for each in entries if not each.startswith("glibc.cpu.hwcaps="))


def _loaded(name: str) -> list[ctypes.CDLL]:
    """The loaded libraries whose file has `name` in its name."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count(" ") and ".so" in line}
    return [ctypes.CDLL(path) for path in sorted(paths) if name in Path(path).name]


def _core_name(openblas: ctypes.CDLL) -> str | None:
    """The name of the code that OpenBLAS has chosen; None where it does not tell."""
    name = getattr(openblas, "gotoblas_corename", None)
    if name is None:
        return None
    name.restype = ctypes.c_char_p
    return name().decode()


def _choose_again(openblas: ctypes.CDLL) -> None:
    """Let OpenBLAS read its variable again; nobody may be computing with it meanwhile."""
    if _core_name(openblas) not in (CORE, None):
        openblas.gotoblas_dynamic_quit()
        openblas.gotoblas_dynamic_init()
