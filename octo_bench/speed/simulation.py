"""How fast simulation is, beside stock robosuite: the same arm, start and actions, in turns.

Stock is robosuite's own step with two cameras of its own, in a process of its own: its renderer
expects to be the only one. Ours is the environment as it is evaluated. What is to be done at the
least, stepping the physics and drawing two frames of the simplified model, is measured too: the
floor.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from octo_bench.definitions.environments import Environment, environment
from octo_bench.experts.registry import demonstrate
from octo_bench.files import write_json
from octo_bench.machine import processor
from octo_bench.processes.executor import Executor
from octo_bench.progress import ProgressBar
from octo_bench.simulation.environment import IMAGE_SIZE, OctoBenchEnvironment
from octo_bench.simulation.stock import StockSimulation
from octo_bench.simulation.world import CONTROL_FREQUENCY
from octo_bench.speed.stopwatch import Stopwatch

DEFAULT_ENVIRONMENTS = tuple(
    f"octo_bench/{task}-{arm}-v1"
    for task in ("Lift", "PickPlaceCan")
    for arm in ("Panda", "UR5e", "Kinova3")
)
_SEED = 0
_VERSIONS = ("octo-bench", "robosuite", "mujoco", "numba", "numpy")

Times = dict[str, float]


@dataclass(frozen=True)
class SimulationSpeed:
    """One environment's times; those ending in `_ms` are per control step.

    `stock_ms` and `fast_ms` are whole steps with two camera frames; `ratio` is the one by the
    other. Each is split into physics (MuJoCo's stepping), control (from action to torques),
    rendering, and the rest (observations, success). `floor_physics_ms` is MuJoCo stepping by
    itself and `floor_rendering_ms` our renderer drawing by itself, along the same trajectory.
    `rollout_*` is the scripted expert's whole episode, the reset included: ours finds the actions,
    which takes time too, and stock replays them.
    """

    env_id: str
    steps: int
    stock_ms: float
    fast_ms: float
    ratio: float
    stock_physics_ms: float
    stock_control_ms: float
    stock_rendering_ms: float
    stock_rest_ms: float
    fast_physics_ms: float
    fast_control_ms: float
    fast_rendering_ms: float
    fast_rest_ms: float
    floor_physics_ms: float
    floor_rendering_ms: float
    rollout_steps: int
    rollout_stock_s: float
    rollout_fast_s: float
    rollout_ratio: float
    stock_success: bool
    fast_success: bool


def measure_simulation(
    env_ids: Sequence[str] = DEFAULT_ENVIRONMENTS,
    *,
    steps: int = 20,
    repeats: int = 5,
    progress: bool = True,
) -> list[SimulationSpeed]:
    """Measure simulation beside stock robosuite, one environment after the other.

    Args:
        env_ids: the environments.
        steps: control steps of the scripted expert that are timed in a turn.
        repeats: how often both sides take turns, so that a slow moment of the machine hits both;
            medians are reported.
        progress: show a progress bar.

    Raises:
        UnknownName: for an environment that is not declared.
    """
    declared = [environment(env_id) for env_id in env_ids]
    with ProgressBar(
        total=len(declared) * (repeats + 1), desc="speed", disable=not progress
    ) as bar:
        return [_measure(each, steps, repeats, bar) for each in declared]


def as_table(speeds: Sequence[SimulationSpeed]) -> list[dict[str, object]]:
    """For people: milliseconds a control step, ours / stock, and the rollout in seconds."""
    return [
        {
            "env": each.env_id,
            "a step, ms": f"{each.fast_ms:.1f} / {each.stock_ms:.0f}",
            "ratio": f"{each.ratio:.1f}",
            "physics": f"{each.fast_physics_ms:.2f} / {each.stock_physics_ms:.2f}",
            "control": f"{each.fast_control_ms:.2f} / {each.stock_control_ms:.2f}",
            "rendering": f"{each.fast_rendering_ms:.2f} / {each.stock_rendering_ms:.1f}",
            "rest": f"{each.fast_rest_ms:.2f} / {each.stock_rest_ms:.2f}",
            "floor": f"{each.floor_physics_ms + each.floor_rendering_ms:.2f}",
            "rollout, s": f"{each.rollout_fast_s:.2f} / {each.rollout_stock_s:.1f}",
            "its ratio": f"{each.rollout_ratio:.1f}",
        }
        for each in speeds
    ]


def write_speed(speeds: Sequence[SimulationSpeed], out: Path) -> None:
    """Write what was measured as JSON, with the versions and the kind of machine.

    Raises:
        BadFile: when the disk is full.
    """
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "graphics": os.environ.get("MUJOCO_GL", ""),
        **{name: importlib.metadata.version(name) for name in _VERSIONS},
    }
    write_json(out, {"machine": machine, "rows": [asdict(speed) for speed in speeds]})


def _measure(declared: Environment, steps: int, repeats: int, bar: ProgressBar) -> SimulationSpeed:
    bar.set_postfix_str(declared.id)
    fast = OctoBenchEnvironment(declared.id)
    with closing(fast), Executor(1) as stock:
        actions = _demonstrator_actions(fast, steps)
        watch = Stopwatch()
        watch.watch(fast.world, "step", "world")
        watch.watch(fast._renderer, "frames", "rendering")
        turns: list[tuple[Times, Times, Times]] = []
        for _ in range(repeats):
            of_stock = stock.call(_stock_turn, declared.id, actions)
            fast.reset(seed=_SEED)
            of_fast = _per_step(watch, fast.step, actions)
            floor = _floor(fast, actions)
            # They are interwoven: what our stepping takes beyond the bare physics is control.
            of_fast["physics"] = min(floor["physics"], of_fast["world"])
            of_fast["control"] = of_fast.pop("world") - of_fast["physics"]
            turns.append((_with_rest(of_stock), _with_rest(of_fast), floor))
            bar.update()
        of_stock, of_fast, floor = (_medians(side) for side in zip(*turns, strict=True))
        rollout_actions, fast_seconds, fast_success = _demonstrate(fast)
        stock_seconds, stock_success = stock.call(_stock_rollout, declared.id, rollout_actions)
        bar.update()
    return SimulationSpeed(
        env_id=declared.id,
        steps=steps,
        stock_ms=of_stock["step"],
        fast_ms=of_fast["step"],
        ratio=of_stock["step"] / of_fast["step"],
        stock_physics_ms=of_stock["physics"],
        stock_control_ms=of_stock["control"],
        stock_rendering_ms=of_stock["rendering"],
        stock_rest_ms=of_stock["rest"],
        fast_physics_ms=of_fast["physics"],
        fast_control_ms=of_fast["control"],
        fast_rendering_ms=of_fast["rendering"],
        fast_rest_ms=of_fast["rest"],
        floor_physics_ms=floor["physics"],
        floor_rendering_ms=floor["rendering"],
        rollout_steps=len(rollout_actions),
        rollout_stock_s=stock_seconds,
        rollout_fast_s=fast_seconds,
        rollout_ratio=stock_seconds / fast_seconds,
        stock_success=stock_success,
        fast_success=fast_success,
    )


def _per_step(watch: Stopwatch, step: Callable[[np.ndarray], Any], actions: np.ndarray) -> Times:
    """Take the actions; milliseconds a step of all that is watched, and of "step" itself."""
    watch.take()
    step = watch.timed(step, "step")
    for action in actions:
        step(action)
    return {name: milliseconds / len(actions) for name, milliseconds in watch.take().items()}


def _demonstrator_actions(env: OctoBenchEnvironment, steps: int) -> np.ndarray:
    """The first actions (steps, A) of the demonstrator."""
    env.reset(seed=_SEED)
    motion = demonstrate(env.world)
    actions = []
    for _ in range(steps):
        actions.append(np.clip(next(motion), -1.0, 1.0))
        env.step(actions[-1])
    return np.array(actions)


def _floor(env: OctoBenchEnvironment, actions: np.ndarray) -> Times:
    """Milliseconds a step of MuJoCo alone and of the renderer alone, along the actions."""
    world = env.world
    bare = mujoco.MjData(world.model)
    substeps = round(1 / CONTROL_FREQUENCY / world.model.opt.timestep)
    physics = rendering = 0.0
    env.reset(seed=_SEED)
    for action in actions:
        env.step(action)
        mujoco.mj_copyData(bare, world.model, world.data)
        cameras = env.cameras()
        started = time.perf_counter()
        mujoco.mj_step(world.model, bare, nstep=substeps)
        stepped = time.perf_counter()
        env._renderer.frames(world.qpos, cameras)
        physics += stepped - started
        rendering += time.perf_counter() - stepped
    return {"physics": 1e3 * physics / len(actions), "rendering": 1e3 * rendering / len(actions)}


def _demonstrate(env: OctoBenchEnvironment) -> tuple[np.ndarray, float, bool]:
    """The scripted expert's way to its first success: its actions (T, A), seconds, success."""
    started = time.perf_counter()
    env.reset(seed=_SEED)
    motion = demonstrate(env.world)
    actions: list[np.ndarray] = []
    succeeded = truncated = False
    while not (succeeded or truncated):
        actions.append(np.clip(next(motion), -1.0, 1.0))
        _, _, _, truncated, info = env.step(actions[-1])
        succeeded = info["success"]
    return np.array(actions), time.perf_counter() - started, succeeded


@cache
def _stock(env_id: str) -> tuple[StockSimulation, Stopwatch]:
    """The twin in stock robosuite, of the process that is kept for it, and its stopwatch."""
    stock, watch = StockSimulation(environment(env_id), IMAGE_SIZE), Stopwatch()
    watch.watch(stock.suite.sim, "step1", "physics")
    watch.watch(stock.suite.sim, "step2", "physics")
    watch.watch(stock.suite, "_pre_action", "control")
    watch.watch(stock.suite.sim, "render", "rendering")
    return stock, watch


def _stock_turn(env_id: str, actions: np.ndarray) -> Times:
    """Milliseconds a step of stock robosuite under the actions (N, A), and of its parts."""
    stock, watch = _stock(env_id)
    stock.reset(_SEED)
    return _per_step(watch, stock.step, actions)


def _stock_rollout(env_id: str, actions: np.ndarray) -> tuple[float, bool]:
    """Seconds that an episode of the actions (T, A) takes in stock, and whether it succeeds."""
    stock, _ = _stock(env_id)
    started = time.perf_counter()
    stock.reset(_SEED)
    for action in actions:
        stock.step(action)
    return time.perf_counter() - started, stock.succeeded()


def _with_rest(times: Times) -> Times:
    """The parts of a step, and what they leave of it."""
    parts = sum(milliseconds for name, milliseconds in times.items() if name != "step")
    return {**times, "rest": times["step"] - parts}


def _medians(turns: Sequence[Times]) -> Times:
    return {name: float(np.median([times[name] for times in turns])) for name in turns[0]}
