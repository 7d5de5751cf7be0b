"""The process's one OpenGL context, current only while this package draws.

OpenGL calls go to the context that is current in the thread. Other libraries rely on theirs staying
current between calls: stock robosuite makes its context current once, when it is created, and both
robosuite and MuJoCo delete objects by number in whatever context is current when they are garbage
collected. So a block `with drawing():` makes our context current and puts back what was there.

pyrender ends the EGL display, and with it every context of the process, when one of its renderers
is deleted. Our context is then created again; what was made in the old one must be, too.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import mujoco

from octo_bench.errors import MissingDependency

# The name of a texture by which our context is recognised: after a display has ended, a context of
# another library may lie at the address of ours.
_MARK = 0x6F63746F

Restore = Callable[[], None]

_contexts: list[mujoco.GLContext] = []
_abandoned: list[object] = []


@contextmanager
def drawing() -> Iterator[mujoco.GLContext]:
    """Make our context current; afterwards the one that was current before is so again.

    Yields:
        The context. It is another object than the last time where that one was destroyed.

    Raises:
        MissingDependency: where there is no OpenGL to draw with.
    """
    collecting = gc.isenabled()
    gc.disable()  # what others free when collected, they free in whichever context is current
    restore = _CURRENT.get(_kind(), _current_of_glfw)()
    try:
        yield _make_current()
    finally:
        restore()
        if collecting:
            gc.enable()


def abandon(owner: object) -> None:
    """Keep an object of MuJoCo that was made in a context that is gone from being freed.

    Freeing it would delete the objects of the same numbers in a context of somebody else.
    """
    _abandoned.append(owner)


def _make_current() -> mujoco.GLContext:
    from OpenGL import GL, error  # after MuJoCo has chosen how OpenGL is reached

    if _contexts:
        try:
            _contexts[-1].make_current()
            if GL.glIsTexture(_MARK):
                return _contexts[-1]
        except (RuntimeError, error.Error):
            pass  # the display was ended
        _contexts.pop()._context = None  # or it would destroy one of somebody else later
        if _kind() == "egl":
            from mujoco import egl

            egl.EGL_DISPLAY = None  # so that MuJoCo initializes it again
    try:
        context = _context_class()(64, 64)
    except ImportError as wrong:
        raise MissingDependency(
            f"OpenGL cannot be reached by {_kind()} ({wrong}); if PyOpenGL was imported before "
            f"octo_bench, set PYOPENGL_PLATFORM={_kind()} in the environment"
        ) from wrong
    context.make_current()
    GL.glBindTexture(GL.GL_TEXTURE_2D, _MARK)
    GL.glBindTexture(GL.GL_TEXTURE_2D, 0)
    _contexts.append(context)
    atexit.register(_free_at_exit)  # before MuJoCo ends the display
    return context


def _free_at_exit() -> None:
    if _contexts:
        with drawing() as context:
            pass
        context.free()
        _contexts.clear()


def _kind() -> str:
    return os.environ.get("MUJOCO_GL", "").lower().strip()


def _context_class() -> type[mujoco.GLContext]:
    """MuJoCo's class for what `MUJOCO_GL` names now.

    `mujoco.GLContext` is of what it named when MuJoCo was imported, perhaps before this package.
    """
    if _kind() == "egl":
        from mujoco import egl

        return egl.GLContext
    if _kind() == "osmesa":
        from mujoco import osmesa

        return osmesa.GLContext
    return mujoco.GLContext


def _current_of_egl() -> Restore:
    from mujoco import egl
    from mujoco.egl import egl_ext as EGL
    from OpenGL import error

    interface = EGL.eglQueryAPI()
    EGL.eglBindAPI(EGL.EGL_OPENGL_API)  # what is current is asked of one interface
    display, context = EGL.eglGetCurrentDisplay(), EGL.eglGetCurrentContext()
    surfaces = [EGL.eglGetCurrentSurface(which) for which in (EGL.EGL_DRAW, EGL.EGL_READ)]

    def restore() -> None:
        try:
            if context:
                EGL.eglMakeCurrent(display, *surfaces, context)
            elif egl.EGL_DISPLAY is not None:
                none = EGL.EGL_NO_SURFACE
                EGL.eglMakeCurrent(egl.EGL_DISPLAY, none, none, EGL.EGL_NO_CONTEXT)
        except error.Error:
            EGL.eglReleaseThread()  # it was gone already, with its display
        EGL.eglBindAPI(interface)

    return restore


def _current_of_osmesa() -> Restore:
    from mujoco.osmesa import osmesa
    from OpenGL import GL

    context = osmesa.OSMesaGetCurrentContext()
    if not context:
        return partial(osmesa.OSMesaMakeCurrent, None, None, GL.GL_FLOAT, 0, 0)
    width, height, _, buffer = osmesa.OSMesaGetColorBuffer(context)
    number = osmesa.OSMesaGetIntegerv(osmesa.OSMESA_TYPE)
    return partial(osmesa.OSMesaMakeCurrent, context, buffer, number, width, height)


def _current_of_glfw() -> Restore:
    import glfw

    if not glfw.init():
        return lambda: None
    return partial(glfw.make_context_current, glfw.get_current_context())


_CURRENT: dict[str, Callable[[], Restore]] = {
    "egl": _current_of_egl,
    "osmesa": _current_of_osmesa,
}
