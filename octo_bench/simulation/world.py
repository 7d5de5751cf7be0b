"""A task on an embodiment, simulated by robosuite: physics, state, and queries.

robosuite builds the model, places the objects and judges success; stepping and torques are
ours, without robosuite's observables. Everything that robosuite draws at construction is drawn
from a pinned seed, so two processes build the same model, and an episode depends on its seed
alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np

from octo_bench.definitions.environments import Arm, Environment, file_of
from octo_bench.errors import BadDefinition, BadInitialStates
from octo_bench.simulation.construction import CONTROL_FREQUENCY, construct
from octo_bench.simulation.control import Controllers
from octo_bench.simulation.wiping import Wiping

Control = Literal["fast", "stock"]

_WILD = {
    "positions": int(mujoco.mjtWarning.mjWARN_BADQPOS),
    "velocities": int(mujoco.mjtWarning.mjWARN_BADQVEL),
    "accelerations": int(mujoco.mjtWarning.mjWARN_BADQACC),
}
"""MuJoCo's warnings of unstable joints, after which it resets the model."""


class UnstableSimulation(FloatingPointError):
    """Joints became unstable; MuJoCo resets the model then, so the episode is over."""


@dataclass(frozen=True)
class Pose:
    """A position (3,) in metres and a rotation matrix (3, 3), in the world."""

    position: np.ndarray
    rotation: np.ndarray


class World:
    """One robosuite simulation, stepped and read without its observables."""

    def __init__(self, declared: Environment, control: Control = "fast", **options: Any) -> None:
        """Build the simulation of `declared`; `control="stock"` keeps robosuite's own torques.

        `options` are robosuite's own, such as cameras to compare with.

        Raises:
            BadDefinition: when robosuite has no such task or robot, or lacks the named pads.
            MissingDependency: when the package that brings the robot is not installed.
        """
        self.declared = declared
        self._fast = control == "fast"
        self._suite = construct(declared, **options)
        self._kinematics = mujoco.MjData(self.model)
        self._hands = _hands(self._suite, declared, self._kinematics)
        self._controllers = Controllers(self._suite)
        # robosuite asks this in its own success checks, with pad names that do not fit every arm.
        self._suite._check_grasp = self._robosuite_grasps
        self._set_initial_joints()
        self._noise = [dict(robot.initialization_noise) for robot in self._suite.robots]
        self._substeps = round(1 / CONTROL_FREQUENCY / self._suite.model_timestep)
        self._workspace = np.array(declared.task.workspace)
        self._wiping = Wiping(self._suite) if declared.task.tool == "wiper" else None
        self._extents: dict[str, np.ndarray] = {}

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model of the physics."""
        return self._suite.sim.model._model

    @property
    def data(self) -> mujoco.MjData:
        """The present state of the physics, to look at."""
        return self._suite.sim.data._data

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
        self._suite.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self._suite.reset()
        self._begin()

    def scene(self) -> np.ndarray:
        """All that an episode starts from, (D,) float64.

        Joint positions, joint velocities, and where the model has its bodies: some tasks place
        fixed things (a door, dirt) in the model itself.
        """
        data, model = self._suite.sim.data._data, self.model
        return np.concatenate(
            [data.qpos, data.qvel, model.body_pos.ravel(), model.body_quat.ravel()]
        )

    def reset_to(self, scene: np.ndarray) -> None:
        """Start an episode from a `scene()`; it goes on as the one that the scene is of."""
        data, model = self._suite.sim.data._data, self.model
        sizes = [model.nq, model.nv, model.body_pos.size, model.body_quat.size]
        if scene.size != sum(sizes):
            raise BadInitialStates(
                self.declared.id,
                f"its initial states have {scene.size} entries, the simulation has {sum(sizes)}",
                "make them again with `octo-bench freeze --again`",
            )
        qpos, qvel, body_pos, body_quat = np.split(scene, np.cumsum(sizes)[:-1])
        # The controllers hold on to where the arm is when robosuite resets it.
        for robot in self._suite.robots:
            robot.init_qpos = qpos[robot._ref_joint_pos_indexes]
            robot.initialization_noise["magnitude"] = 0.0
        self._suite.reset()
        self._set_initial_joints()
        for robot, noise in zip(self._suite.robots, self._noise, strict=True):
            robot.initialization_noise.update(noise)
        data.qpos[:], data.qvel[:] = qpos, qvel
        model.body_pos[:] = body_pos.reshape(-1, 3)
        model.body_quat[:] = body_quat.reshape(-1, 4)
        self._begin()

    def step(self, action: np.ndarray) -> None:
        """Advance by one control step of 1/20 s under `action` (A,) in [-1, 1]."""
        if self._fast:
            self._controllers.advance(action, self._substeps)
        else:
            command = self._command(action)
            for substep in range(self._substeps):
                mujoco.mj_step1(self.model, self.data)
                self._suite._pre_action(command, policy_step=substep == 0)
                mujoco.mj_step2(self.model, self.data)
        if self._wiping is not None:
            self._wiping.update()

    def require_stable(self) -> None:
        """Check that no joint has become unstable since the reset; MuJoCo itself continues.

        Raises:
            UnstableSimulation: names what was not a number, or a huge one.
        """
        warnings = self.data.warning.number
        if wild := [name for name, kind in _WILD.items() if warnings[kind]]:
            raise UnstableSimulation(f"the simulation is unstable: {', '.join(wild)} diverged")

    def state(self) -> np.ndarray:
        """The simulation's state, [time, qpos, qvel] as robosuite flattens it, float64."""
        return self._suite.sim.get_state().flatten()

    def restore(self, state: np.ndarray) -> None:
        """Put the simulation into a `state` that `state()` gave."""
        self._suite.sim.set_state_from_flattened(state)
        self._suite.sim.forward()

    def state_sha256(self) -> str:
        """Hex SHA-256 of the scene (little-endian float64)."""
        return hashlib.sha256(self.scene().astype("<f8").tobytes()).hexdigest()

    def succeeded(self) -> bool:
        """Whether the task is done now, as robosuite defines it."""
        return bool(self._suite._check_success())

    def tool(self, arm: int = 0) -> Pose:
        """The end-effector frame between the pads: z along the approach, y along the opening."""
        hand = self._hands[arm]
        rotation = self._fresh().site_xmat[hand.site].reshape(3, 3) @ hand.turn
        site = self._kinematics.site_xpos[hand.site]
        return Pose(site + hand.offset * rotation[:, 2], rotation)

    def facing(self, arm: int = 0) -> float:
        """The yaw (rad) that an arm faces: that of its end effector in the initial posture."""
        return self._hands[arm].facing

    def base(self, arm: int = 0) -> np.ndarray:
        """Where an arm's base stands, (3,) metres in the world."""
        return self._hands[arm].robot.base_pos.copy()

    def opening(self, arm: int = 0) -> float:
        """The gripper's opening, 0 closed to 1 open; 0 for an end effector that does not open."""
        hand = self._hands[arm]
        if not hand.pads:
            return 0.0
        data = self._fresh()
        left, right = (data.geom_xpos[pads].mean(axis=0) for pads in hand.pads)
        gripper = hand.arm.gripper
        opening = (np.linalg.norm(left - right) - gripper.closed) / (gripper.open - gripper.closed)
        return float(np.clip(opening, 0.0, 1.0))

    def thing(self, name: str) -> Pose:
        """The pose of one of the task's things, an object, body or site, by robosuite's name.

        Raises:
            BadDefinition: when the task has nothing of that name.
        """
        kind, index = self._find(name)
        data = self._fresh()
        if kind == "body":
            return Pose(data.xpos[index].copy(), data.xmat[index].reshape(3, 3).copy())
        return Pose(data.site_xpos[index].copy(), data.site_xmat[index].reshape(3, 3).copy())

    def extent(self, name: str) -> np.ndarray:
        """The box around an object's collision geoms in its own frame: low and high, (2, 3) m.

        Of a site it is zeros.
        """
        if name not in self._extents:
            named = _objects(self._suite).get(name)
            self._extents[name] = (
                np.zeros((2, 3)) if named is None else _extent(self.model, named.contact_geoms)
            )
        return self._extents[name]

    def grasping(self, name: str, arm: int = 0) -> bool:
        """Whether both finger pads of an arm touch the object of this name."""
        named = _objects(self._suite)[name]
        return self._grasps(self._hands[arm], named.contact_geoms)

    def dirt(self) -> np.ndarray:
        """Where there is still dirt to wipe, (n, 3) metres in the world; empty if none ever was."""
        return np.empty((0, 3)) if self._wiping is None else self._wiping.remaining()

    def model_xml(self) -> str:
        """The model as MuJoCo XML, as robomimic wants to find it in a file."""
        return self._suite.sim.model.get_xml()

    def close(self) -> None:
        """Free the simulation."""
        self._suite.close()

    def _begin(self) -> None:
        """What a start from a seed and one from a scene have in common."""
        data = self._suite.sim.data._data
        # The solver starts from here; left as it is, it would depend on the episode before.
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_forward(self.model, data)
        self._controllers = Controllers(self._suite)

    def _set_initial_joints(self) -> None:
        for robot in self._suite.robots:
            joints = [hand.arm.initial_joints for hand in self._hands if hand.robot is robot]
            robot.init_qpos = np.concatenate(joints)

    def _command(self, action: np.ndarray) -> np.ndarray:
        """Our action (A,) as robosuite's."""
        return self._controllers.command(action)

    def _find(self, name: str) -> tuple[Literal["body", "site"], int]:
        objects = _objects(self._suite)
        if name in objects:
            return "body", self.model.body(objects[name].root_body).id
        for kind, number in (
            ("body", mujoco.mjtObj.mjOBJ_BODY),
            ("site", mujoco.mjtObj.mjOBJ_SITE),
        ):
            index = mujoco.mj_name2id(self.model, number, name)
            if index >= 0:
                return kind, index
        path = file_of("tasks", self.declared.task.name)
        known = ", ".join(sorted(objects))
        raise BadDefinition(path, f"the task has no '{name}'", f"its objects are {known}")

    def _robosuite_grasps(self, gripper: Any, object_geoms: Any) -> bool:
        """robosuite's `_check_grasp`, which is asked about a gripper, or a robot's all of them."""
        asked = list(gripper.values()) if isinstance(gripper, dict) else [gripper]
        geoms = getattr(object_geoms, "contact_geoms", object_geoms)
        geoms = [geoms] if isinstance(geoms, str) else geoms
        return any(
            self._grasps(hand, geoms)
            for hand in self._hands
            if hand.robot.gripper[hand.side] in asked
        )

    def _grasps(self, hand: _Hand, geom_names: list[str]) -> bool:
        if not hand.pads:
            return False
        geoms = [self.model.geom(name).id for name in geom_names]
        first, second = self._suite.sim.data._data.contact.geom.T
        return all(
            bool(
                (
                    (np.isin(first, pads) & np.isin(second, geoms))
                    | (np.isin(first, geoms) & np.isin(second, pads))
                ).any()
            )
            for pads in hand.pads
        )

    def _fresh(self) -> mujoco.MjData:
        """Kinematics at the present joint positions; the physics' own lag by a substep."""
        self._kinematics.qpos[:] = self.qpos
        mujoco.mj_kinematics(self.model, self._kinematics)
        return self._kinematics


@dataclass(frozen=True)
class _Hand:
    """One arm in the simulation.

    `site` is its grip site; `turn` (3, 3) and then `offset` (m) along the approach lead from there
    to the canonical end-effector frame. `pads` are the geoms of the left and the right finger pads,
    empty for a wiper; `facing` (rad) is the yaw in the world of the end effector at the initial
    joints.
    """

    robot: Any
    side: str
    arm: Arm
    site: int
    turn: np.ndarray
    offset: float
    pads: tuple[np.ndarray, ...]
    facing: float


def _hands(suite: Any, declared: Environment, kinematics: mujoco.MjData) -> tuple[_Hand, ...]:
    model = suite.sim.model._model
    sides = [(robot, side) for robot in suite.robots for side in robot.arms]
    for (robot, side), arm in zip(sides, declared.embodiment.arms, strict=True):
        joints = _joints_of(robot, side)
        if len(arm.initial_joints) != len(joints):
            path = file_of("embodiments", declared.embodiment.name)
            problem = f"'initial_joints' has {len(arm.initial_joints)} entries, not {len(joints)}"
            raise BadDefinition(path, problem, "give the angle of each joint of the arm")
        kinematics.qpos[joints] = arm.initial_joints
    mujoco.mj_kinematics(model, kinematics)
    hands = []
    for (robot, side), arm in zip(sides, declared.embodiment.arms, strict=True):
        site = robot.eef_site_id[side]
        yaw = np.radians(arm.tool_yaw)
        pads, offset = (), 0.0
        if declared.task.tool == "wiper":
            # The wiper is mounted along the hand's axes: the quarter turn that faces forward.
            x, y = kinematics.site_xmat[site].reshape(3, 3)[0, :2]
            yaw = np.round(np.arctan2(y, x) / (np.pi / 2)) * (np.pi / 2)
        else:
            pads = _pads(suite, declared, arm, robot.gripper[side].naming_prefix)
            offset = arm.tool_offset
        turn = np.array(
            [[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
        )
        forward = (kinematics.site_xmat[site].reshape(3, 3) @ turn)[:, 0]
        facing = float(np.arctan2(forward[1], forward[0]))
        hands.append(_Hand(robot, side, arm, site, turn, offset, pads, facing))
    return tuple(hands)


def _joints_of(robot: Any, side: str) -> np.ndarray:
    """Addresses in qpos of an arm's joints; robosuite lists the right arm's first."""
    split = robot._joint_split_idx
    joints = robot._ref_joint_pos_indexes
    return np.array(joints[:split] if side == "right" else joints[split:])


def _objects(suite: Any) -> dict[str, Any]:
    """The task's objects: by the suite's own attribute, and by the object's name."""
    found = {name: value for name, value in vars(suite).items() if hasattr(value, "root_body")}
    for group in ("objects", "visual_objects", "nuts"):
        found.update({each.name: each for each in getattr(suite, group, ())})
    return found


def _extent(model: mujoco.MjModel, geom_names: list[str]) -> np.ndarray:
    """Low and high corner (2, 3) of the geoms' own boxes, in the frame of their body."""
    corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    points = []
    for name in geom_names:
        geom = model.geom(name)
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, geom.quat)
        box = model.geom_aabb[geom.id]
        local = box[:3] + corners * box[3:]
        points.append(geom.pos + local @ rotation.reshape(3, 3).T)
    stacked = np.concatenate(points)
    return np.stack([stacked.min(axis=0), stacked.max(axis=0)])


def _pads(
    suite: Any, declared: Environment, arm: Arm, prefix: str
) -> tuple[np.ndarray, np.ndarray]:
    model = suite.sim.model._model
    names = {model.geom(geom).name for geom in range(model.ngeom)}
    for pad in (*arm.gripper.left_pads, *arm.gripper.right_pads):
        if prefix + pad not in names:
            path = file_of("embodiments", declared.embodiment.name)
            own = sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))
            raise BadDefinition(path, f"no geom '{pad}'", f"the gripper has {', '.join(own)}")
    sides = (arm.gripper.left_pads, arm.gripper.right_pads)
    left, right = (np.array([model.geom(prefix + pad).id for pad in side]) for side in sides)
    return left, right
