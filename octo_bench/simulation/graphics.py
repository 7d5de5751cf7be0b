"""Choosing how OpenGL is reached without a screen: EGL, else OSMesa."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from octo_bench.errors import MissingDependency


def choose_backend() -> None:
    """Set `MUJOCO_GL` to what loads on this machine, unless it is set or nothing loads.

    Runs when the package is imported: MuJoCo chooses on its own import. Software rendering is
    kept in the calling thread, so that processes that render side by side keep to a core each.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")
    if "MUJOCO_GL" not in os.environ:
        if _egl_has_devices():
            os.environ["MUJOCO_GL"] = "egl"
        elif any(_load(f"libOSMesa.so{version}") for version in (".8", ".6", "")):
            os.environ["MUJOCO_GL"] = "osmesa"


def require_backend() -> None:
    """Check that there is something to render with.

    Raises:
        MissingDependency: names the package to install.
    """
    if "MUJOCO_GL" not in os.environ:
        raise MissingDependency(
            "rendering needs EGL or OSMesa and neither loads; install the system package libegl1 "
            "(with libgl1-mesa-dri) or libosmesa6"
        )
    _load_triton()


@cache
def _load_triton() -> None:
    """Load Triton's library, if it is installed, before the renderer's.

    Both contain LLVM, and Mesa makes its symbols global: a Triton that is loaded after a frame was
    drawn finds Mesa's and crashes. Nearly all that is built on torch imports it (torchvision,
    transformers, peft, the optimisers), so whoever draws first and loads a network later would
    meet that. This order does no harm, and takes less than a tenth of a second.
    """
    triton = find_spec("triton")
    for folder in (triton and triton.submodule_search_locations) or ():
        for library in Path(folder, "_C").glob("libtriton*.so"):
            _load(str(library))


def _load(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _egl_has_devices() -> bool:
    """Whether EGL offers a device, as MuJoCo asks it (EGL_EXT_device_enumeration)."""
    egl = _load("libEGL.so.1")
    if egl is None:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return False
    query = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )(address)
    count = ctypes.c_int(0)
    return bool(query(0, None, ctypes.byref(count))) and count.value > 0
