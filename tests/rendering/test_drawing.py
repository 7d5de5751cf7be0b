"""Drawing beside other libraries: nobody crashes, nobody's frame is wrong, in any order.

Two long orders are tried here; `python tests/drawing_orders.py` tries all.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from functools import cache

import pytest

from drawing_orders import in_fresh_process

ORDERS = (
    # Others draw first; the networks' library comes after all; we are closed and dropped between.
    "robosuite blind ours robosuite -ours robosuite ours robosuite ~ours robosuite mujoco triton "
    "ours",
    # We draw first; others are closed and dropped between, and one ends the display.
    "ours matplotlib opencv mujoco -mujoco ours robosuite ~robosuite ours terminate ours mujoco "
    "terminate mujoco ours opencv matplotlib",
)


@cache
def alone(library: str) -> str:
    (frame,) = in_fresh_process([library])
    return frame


@pytest.mark.skipif(
    os.environ.get("MUJOCO_GL", "egl") != "egl", reason="what other libraries do is about EGL"
)
@pytest.mark.parametrize("order", ORDERS, ids=["others first", "ours first"])
def test_frames_are_those_of_a_fresh_process(order: str) -> None:
    drawn = in_fresh_process(order.split())
    frames = [frame for frame in drawn if not frame.startswith("terminate")]
    assert frames == [alone(frame.split()[0]) for frame in frames]


def in_python(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports", ["mujoco, octo_bench", "octo_bench, OpenGL.GL", "octo_bench, mujoco, OpenGL.EGL"]
)
def test_imports_may_come_in_any_order(imports: str) -> None:
    program = (
        "import os\n"
        "for name in ('MUJOCO_GL', 'PYOPENGL_PLATFORM'): os.environ.pop(name, None)\n"
        f"import {imports}\n"
        "from octo_bench.rendering.opengl import drawing\n"
        "with drawing():\n"
        "    from OpenGL import GL\n"
        "    print(GL.glGetString(GL.GL_RENDERER).decode())"
    )
    assert in_python(program) not in ("", "none")


def test_triton_may_be_imported_after_a_frame_was_drawn() -> None:
    program = (
        "from octo_bench.rendering.opengl import drawing\n"
        "with drawing(): pass\n"
        "import triton._C.libtriton"
    )
    in_python(program)


def test_a_replaced_malloc_is_said_instead_of_a_crash() -> None:
    """Where its own symbols first would mix two mallocs, Triton is refused."""
    library = ctypes.util.find_library("jemalloc")
    if library is None:
        pytest.skip("no jemalloc here")
    program = (
        "from octo_bench.rendering.opengl import drawing\n"
        "with drawing(): pass\n"
        "try: import triton._C.libtriton\n"
        "except ImportError as error: print(error)\n"
        "import torch, torchvision"
    )
    assert "malloc is replaced" in in_python(program, LD_PRELOAD=library)
