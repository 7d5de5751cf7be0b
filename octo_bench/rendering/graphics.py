"""Choosing how OpenGL is reached without a screen: EGL, else OSMesa."""

from __future__ import annotations

import ctypes
import os

from octo_bench.errors import MissingDependency

_KNOWN = (
    *("", "egl", "osmesa", "glfw", "glx", "cgl", "wgl"),
    *("1", "on", "true", "enable", "enabled", "0", "off", "false", "disable", "disabled"),
)
"""What MuJoCo takes for `MUJOCO_GL`."""


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
    if os.environ.get("MUJOCO_GL") in ("egl", "osmesa"):
        # MuJoCo sets this when it draws, which is too late where PyOpenGL was imported before.
        os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])


def require_known_backend() -> None:
    """Check that `MUJOCO_GL`, if it is set, is a value that MuJoCo knows on this system.

    Raises:
        MissingDependency: names those to choose from.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen not in _KNOWN:
        raise MissingDependency(
            f"MUJOCO_GL is '{chosen[:60]}', which MuJoCo does not know; "
            "unset it, or use egl, osmesa or glfw"
        )


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
