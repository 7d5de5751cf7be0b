"""A task on an arm, simulated by robosuite: the physics, its state, and what can be asked of it.

robosuite builds the model, places the objects and judges success; stepping and torques are
ours, without robosuite's observables. Everything that robosuite draws at construction is drawn
from a pinned seed, so two processes build the same model, and an episode depends on its seed
alone.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from octo_bench.definitions import Embodiment, Environment
from octo_bench.errors import BadDefinition
from octo_bench.paths import definitions_root
from octo_bench.simulation.control import OperationalSpaceControl

Control = Literal["fast", "stock"]

CONTROL_FREQUENCY = 20
_CONSTRUCTION_SEED = 20_251_101


@dataclass(frozen=True)
class Pose:
    """A position (3,) in metres and a rotation matrix (3, 3), in the world."""

    position: np.ndarray
    rotation: np.ndarray


class World:
    """One robosuite simulation, stepped and read without its observables."""

    def __init__(self, declared: Environment, control: Control = "fast") -> None:
        """Build the simulation of `declared`; `control="stock"` keeps robosuite's own torques.

        Raises:
            BadDefinition: when robosuite has no such task or robot, or lacks the named pads.
        """
        self.declared = declared
        self._fast = control == "fast"
        self._control: OperationalSpaceControl | None = None
        self._suite = _construct(declared)
        self._robot = self._suite.robots[0]
        self._prefix = self._robot.gripper["right"].naming_prefix
        self._pads = _pads(self._suite, declared.embodiment, self._prefix)
        # robosuite asks this in its own success checks, with pad names that do not fit every arm.
        self._suite._check_grasp = lambda gripper, object_geoms: self._grasps(object_geoms)
        self._robot.init_qpos = np.array(declared.embodiment.initial_joints)
        self._tool_site = self._robot.eef_site_id["right"]
        yaw = np.radians(declared.embodiment.tool_yaw)
        self._tool_turn = np.array(
            [[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
        )
        self._kinematics = mujoco.MjData(self.model)
        self._substeps = round(1 / CONTROL_FREQUENCY / self._suite.model_timestep)
        self._workspace = np.array(declared.task.workspace)

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model of the physics."""
        return self._suite.sim.model._model

    @property
    def qpos(self) -> np.ndarray:
        """Joint positions (nq,), a view."""
        return self._suite.sim.data.qpos

    @property
    def workspace(self) -> np.ndarray:
        """Origin (3,) of the workspace frame in the world, metres."""
        return self._workspace

    def reset(self, seed: int) -> None:
        """Start the episode that `seed` determines."""
        generator = np.random.default_rng(seed)
        self._suite.rng.bit_generator.state = generator.bit_generator.state
        self._suite.reset()
        if self._fast:
            self._control = OperationalSpaceControl(self._robot, "right")

    def step(self, action: np.ndarray) -> None:
        """Advance by one control step of 1/20 s under `action` (A,) in [-1, 1]."""
        model, data = self.model, self._suite.sim.data._data
        for substep in range(self._substeps):
            mujoco.mj_step1(model, data)
            if substep == 0 or self._control is None:
                self._suite._pre_action(action, policy_step=substep == 0)
            else:
                self._control.apply()
            mujoco.mj_step2(model, data)

    def state(self) -> np.ndarray:
        """The simulation's state, [time, qpos, qvel] as robosuite flattens it, float64."""
        return self._suite.sim.get_state().flatten()

    def restore(self, state: np.ndarray) -> None:
        """Put the simulation into a `state` that `state()` gave."""
        self._suite.sim.set_state_from_flattened(state)
        self._suite.sim.forward()

    def state_sha256(self) -> str:
        """Hex SHA-256 of positions and velocities (little-endian float64)."""
        return hashlib.sha256(self.state()[1:].astype("<f8").tobytes()).hexdigest()

    def succeeded(self) -> bool:
        """Whether the task is done now, as robosuite defines it."""
        return bool(self._suite._check_success())

    def tool(self) -> Pose:
        """The canonical tool frame at the grip site: z along the approach, y along the opening."""
        rotation = self._fresh().site_xmat[self._tool_site].reshape(3, 3) @ self._tool_turn
        return Pose(self._kinematics.site_xpos[self._tool_site].copy(), rotation)

    def opening(self) -> float:
        """The gripper's opening, 0 closed to 1 open."""
        data = self._fresh()
        left, right = (data.geom_xpos[pads].mean(axis=0) for pads in self._pads)
        gripper = self.declared.embodiment.gripper
        opening = (np.linalg.norm(left - right) - gripper.closed) / (gripper.open - gripper.closed)
        return float(np.clip(opening, 0.0, 1.0))

    def thing(self, name: str) -> Pose:
        """The pose of one of the task's objects, by its name in robosuite."""
        body = self.model.body(getattr(self._suite, name).root_body).id
        data = self._fresh()
        return Pose(data.xpos[body].copy(), data.xmat[body].reshape(3, 3).copy())

    def grasping(self, name: str) -> bool:
        """Whether both finger pads touch the object of this name."""
        return self._grasps(getattr(self._suite, name))

    def model_xml(self) -> str:
        """The model as MuJoCo XML, as robomimic wants to find it in a file."""
        return self._suite.sim.model.get_xml()

    def close(self) -> None:
        """Free the simulation."""
        self._suite.close()

    def _grasps(self, thing) -> bool:
        geoms = [self.model.geom(name).id for name in thing.contact_geoms]
        first, second = self._suite.sim.data._data.contact.geom.T
        return all(
            bool(
                (
                    (np.isin(first, pads) & np.isin(second, geoms))
                    | (np.isin(first, geoms) & np.isin(second, pads))
                ).any()
            )
            for pads in self._pads
        )

    def _fresh(self) -> mujoco.MjData:
        """Kinematics at the present joint positions; the physics' own lag by a substep."""
        self._kinematics.qpos[:] = self.qpos
        mujoco.mj_kinematics(self.model, self._kinematics)
        return self._kinematics


def _construct(declared: Environment):
    logging.disable(logging.WARNING)  # robosuite warns of what we do not use
    import robosuite
    from robosuite.controllers import load_composite_controller_config
    from robosuite.environments.base import REGISTERED_ENVS
    from robosuite.robots import ROBOT_CLASS_MAPPING

    logging.disable(logging.NOTSET)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)

    task, arm = declared.task, declared.embodiment
    for kind, name, wanted, known in (
        ("tasks", task.name, task.robosuite, REGISTERED_ENVS),
        ("embodiments", arm.name, arm.robot, ROBOT_CLASS_MAPPING),
    ):
        if wanted not in known:
            path = definitions_root() / kind / f"{name}.toml"
            raise BadDefinition(
                path, f"robosuite has no '{wanted}'", f"use one of {', '.join(sorted(known))}"
            )
    controller = load_composite_controller_config(controller="BASIC")
    controller["body_parts"] = {"right": controller["body_parts"]["right"]}
    return robosuite.make(
        task.robosuite,
        robots=arm.robot,
        controller_configs=controller,
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        use_object_obs=False,
        control_freq=CONTROL_FREQUENCY,
        ignore_done=True,
        hard_reset=False,
        seed=_CONSTRUCTION_SEED,
    )


def _pads(suite, arm: Embodiment, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    model = suite.sim.model._model
    names = {model.geom(geom).name for geom in range(model.ngeom)}
    for pad in (*arm.gripper.left_pads, *arm.gripper.right_pads):
        if prefix + pad not in names:
            path = definitions_root() / "embodiments" / f"{arm.name}.toml"
            own = sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))
            raise BadDefinition(path, f"no geom '{pad}'", f"the gripper has {', '.join(own)}")
    sides = (arm.gripper.left_pads, arm.gripper.right_pads)
    left, right = (np.array([model.geom(prefix + pad).id for pad in side]) for side in sides)
    return left, right
