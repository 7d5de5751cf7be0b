"""Drawing of several libraries in one process, in many orders: no crash, no wrong frame.

    python tests/drawing_orders.py                      # every order below, each in a fresh process
    python tests/drawing_orders.py ours mujoco -mujoco ours   # one order, in this process

A word draws a frame with a library, creating what it needs the first time; a minus before it closes
that, a tilde leaves it to the garbage collector. `terminate` ends the EGL display, as pyrender does
when a renderer is deleted. Each frame is compared with what the library draws alone in a fresh
process. pyrender takes part where it is installed.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SIZE = 64
TIME_LIMIT = 300.0  # s, of one order
LIBRARIES = ("ours", "blind", "robosuite", "mujoco", "pyrender", "matplotlib", "opencv", "triton")
OURS = ("ours", "blind")


@dataclass
class Drawer:
    """Draws the same frame each time it is asked; `close` frees what it holds."""

    draw: Callable[[], bytes]
    close: Callable[[], None] = lambda: None


def ours(images: bool = True) -> Drawer:
    from octo_bench.simulation.environment import OctoBenchEnvironment

    # The fast look has nothing to do with OpenGL.
    env = OctoBenchEnvironment("Lift-Panda", render="stock", images=images, image_size=SIZE)

    def draw() -> bytes:
        observation, _ = env.reset(seed=1)
        return b"".join(observation[name].tobytes() for name in sorted(observation))

    return Drawer(draw, env.close)


def blind() -> Drawer:
    return ours(images=False)


def robosuite() -> Drawer:
    import robosuite

    env = robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=False,
        hard_reset=False,  # else it breaks its own frames, when its former context is collected
        seed=0,
    )
    return Drawer(lambda: env.sim.render(SIZE, SIZE, camera_name="frontview").tobytes(), env.close)


def mujoco() -> Drawer:
    import mujoco

    model = mujoco.MjModel.from_xml_string(
        '<mujoco><asset><texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 1 0"'
        ' width="32" height="32"/><material name="m" texture="t"/></asset><worldbody>'
        '<light pos="0 0 2"/><geom type="box" size=".2 .1 .1" material="m"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, SIZE, SIZE)

    def draw() -> bytes:
        renderer.update_scene(data)
        return renderer.render().tobytes()

    return Drawer(draw, renderer.close)


def pyrender() -> Drawer:
    import numpy as np

    np.infty = np.inf  # pyrender 0.1.45 uses it; later NumPy has it no more
    import pyrender
    import trimesh

    box = pyrender.Mesh.from_trimesh(trimesh.creation.box((0.2, 0.2, 0.2)))
    scene = pyrender.Scene(ambient_light=(0.5, 0.5, 0.5))
    scene.add(box)
    pose = np.eye(4)
    pose[2, 3] = 0.5
    scene.add(pyrender.PerspectiveCamera(yfov=1.0), pose=pose)
    renderer = pyrender.OffscreenRenderer(SIZE, SIZE)
    return Drawer(lambda: renderer.render(scene)[0].tobytes(), renderer.delete)


def terminate() -> Drawer:
    from mujoco import egl

    def end() -> bytes:
        egl.egl_ext.eglTerminate(egl.EGL_DISPLAY)
        return b""

    return Drawer(end)


def matplotlib() -> Drawer:
    import matplotlib
    import numpy as np

    matplotlib.use("agg")
    from matplotlib import pyplot

    def draw() -> bytes:
        figure = pyplot.figure(figsize=(1, 1), dpi=SIZE)
        figure.gca().plot(range(5))
        figure.canvas.draw()
        frame = np.asarray(figure.canvas.buffer_rgba()).tobytes()
        pyplot.close(figure)
        return frame

    return Drawer(draw)


def opencv() -> Drawer:
    import cv2
    import numpy as np

    frame = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    return Drawer(lambda: cv2.GaussianBlur(cv2.circle(frame.copy(), (9, 9), 7, 255), (5, 5), 0))


def triton() -> Drawer:
    import torch
    import triton._C.libtriton  # noqa: F401
    from torch.nn.functional import interpolate

    frame = torch.arange(12.0).reshape(1, 3, 2, 2)
    return Drawer(lambda: interpolate(frame, SIZE).numpy().tobytes())


def run_order(words: Sequence[str]) -> list[str]:
    """Do what an order says; returns `library sum` of each frame."""
    drawers: dict[str, Drawer] = {}
    drawn = []
    for word in words:
        name = word.lstrip("-~")
        if word.startswith("-"):
            drawers.pop(name).close()
        elif word.startswith("~"):
            del drawers[name]
            gc.collect()
        else:
            if name not in drawers:
                drawers[name] = globals()[name]()
            drawn.append(f"{name} {hashlib.sha256(drawers[name].draw()).hexdigest()[:16]}")
    return drawn


def in_fresh_process(words: Sequence[str]) -> list[str]:
    """What `run_order` returns in a process of its own.

    Raises:
        RuntimeError: when the process ends badly, or says something of us.
    """
    done = subprocess.run(
        [sys.executable, __file__, *words],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        env={**os.environ, "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")},
    )
    if done.returncode or "octo_bench" in done.stderr:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def orders() -> list[tuple[str, ...]]:
    """Orders that we take part in: others before, after and between our frames, ended and dropped.

    No other library draws again after another one did: robosuite's frame is then wrong without us.
    """
    present = [name for name in LIBRARIES if importlib.util.find_spec(MODULES.get(name, name))]
    others = [name for name in present if name not in OURS]
    pairs = [(a, b, a) for a, b in itertools.permutations(present, 2) if {a, b} & {*OURS}]
    triples = [(a, mine, b, "ours") for mine in OURS for a, b in itertools.permutations(others, 2)]
    ended = [
        order
        for name in ("robosuite", "mujoco", "pyrender")
        for sign in "-~"
        if name in present
        for order in (
            ("ours", name, f"{sign}{name}", "ours", name, "ours"),
            (name, "ours", f"{sign}ours", name, "ours"),
        )
    ]
    return [*pairs, *triples, *ended, (*others, *OURS), (*OURS, *reversed(others), *OURS)]


MODULES = {"ours": "octo_bench", "blind": "octo_bench", "opencv": "cv2"}


def main() -> int:
    if words := sys.argv[1:]:
        print(json.dumps(run_order(words)))
        return 0
    alone: dict[str, str] = {}
    wrong = 0
    for order in orders():
        try:
            frames = in_fresh_process(order)
            for name in {frame.split()[0] for frame in frames} - alone.keys():
                (alone[name],) = in_fresh_process([name])
            differing = [frame for frame in frames if alone[frame.split()[0]] != frame]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            differing = [str(error)]
        wrong += bool(differing)
        print(f"{' '.join(order)}: {'; '.join(differing) or 'as alone'}", flush=True)
    print(f"{wrong} of {len(orders())} orders differ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
