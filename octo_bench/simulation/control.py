"""robosuite's controllers made fast.

robosuite computes torques in Python at 500 Hz, which costs several times what the physics costs.
Here compiled code does that (`torques`); this module takes gains and indices over from
robosuite's controllers, and sets their goals once a control step. What robosuite itself does once
a control step, for grippers and for a mobile base, its own code still does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from octo_bench.definitions.environments import ACTION_SIZE_PER_ARM
from octo_bench.simulation.torques import Joints, Simulation, Tools, advance, apply

_MOBILE = "HYBRID_MOBILE_BASE"
_MOST_JOINTS = 7


@dataclass(frozen=True)
class _Part:
    """A controller of robosuite, the entries of the action that are its, and its actuators.

    `mode` is the entry that asks the arm of a mobile robot to keep its goal, where there is one.
    """

    robot: Any
    name: str
    controller: Any
    entries: slice
    mode: int | None
    actuators: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Controllers:
    """Drives the robots of a robosuite environment, whose arms have a fixed OSC_POSE control.

    robosuite makes new controllers at each reset; a new one of these belongs to them.
    """

    def __init__(self, suite: Any) -> None:
        """Take over gains, goals and indices from the controllers of robosuite's robots."""
        from robosuite.utils import transform_utils

        self._transforms = transform_utils
        self._suite = suite
        self._model, self._data = suite.sim.model._model, suite.sim.data._data
        self._simulation = _simulation(self._model, self._data)
        parts = _parts(self._model, suite.robots)
        self._arms = [part for part in parts if part.controller.name == "OSC_POSE"]
        self._columns = [part for part in parts if part.controller.name == "JOINT_POSITION"]
        self._others = [part for part in parts if part not in (*self._arms, *self._columns)]
        self._arm_joints = _joints(self._arms)
        self._column_joints = _joints(self._columns)
        self._tools = _tools(self._model, self._arms)
        self._order = _order(suite.robots)
        self._begun = False

    def command(self, action: np.ndarray) -> np.ndarray:
        """Our action (A,) as robosuite's (n,): in its order, and in the axes of its controllers.

        Ours moves each end effector along the world's axes; some controllers' axes are turned (the
        arms of Baxter, robots that face each other) or turn with the arm's first link.
        """
        command = np.asarray(action, np.float64)[self._order]
        if self._tools.moves.any():
            mujoco.mj_kinematics(self._model, self._data)
        for part, origin in zip(self._arms, self._tools.origin, strict=True):
            entries = command[part.entries].reshape(2, 3)
            command[part.entries] = (entries @ self._simulation.rotations[origin]).ravel()
        return command

    def advance(self, action: np.ndarray, substeps: int) -> None:
        """Advance by `substeps` steps of MuJoCo under our action (A,)."""
        origins = self.origins()
        command = self.command(action)
        mujoco.mj_step1(self._model, self._data)
        if self._begun:
            self.set_goals(command, origins)
            first = 0
        else:
            self.begin(command)
            mujoco.mj_step2(self._model, self._data)
            first = 1
        advance(
            self._simulation, self._arm_joints, self._tools, self._column_joints, first, substeps
        )

    def begin(self, command: np.ndarray) -> None:
        """Leave an episode's first substep to robosuite, after an `mj_step1`.

        Its controllers answer it with inertias from before the fingers were put in their place.
        """
        self._suite._pre_action(command, policy_step=True)
        for number, part in enumerate(self._arms):
            self._tools.position[number] = part.controller.goal_pos
            self._tools.rotation[number] = part.controller.goal_ori
        for number, part in enumerate(self._columns):
            self._column_joints.goal[number, : len(part.actuators)] = part.controller.goal_qpos
        self._begun = True

    def origins(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Position (3,) and rotation (3, 3) of what each arm's goal is relative to."""
        positions, rotations = self._simulation.positions, self._simulation.rotations
        return [(positions[site].copy(), rotations[site].copy()) for site in self._tools.origin]

    def set_goals(
        self, command: np.ndarray, earlier: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> None:
        """Set all goals from robosuite's action `command` (n,), after an `mj_step1`.

        `earlier` are the `origins()` before that: robosuite takes the goals of an arm on a mobile
        base from where the base was a substep ago.
        """
        now = self.origins()
        for number, part in enumerate(self._arms):
            origin = earlier[number] if part.robot.is_mobile else now[number]
            self._set_tool_goal(number, command, *origin)
        for number, part in enumerate(self._columns):
            joints, count = self._column_joints, len(part.actuators)
            here = self._simulation.qpos[joints.qpos[number, :count]]
            shift = part.controller.scale_action(command[part.entries])
            joints.goal[number, :count] = here + shift
        for part in self._others:
            values = command[part.entries].copy()  # the base's controller writes into it
            grippers = part.robot.composite_controller.grippers
            if part.name in grippers:
                values = grippers[part.name].format_action(values)
            part.controller.set_goal(values)
            values = part.controller.run_controller()
            self._simulation.ctrl[part.actuators] = np.clip(values, part.low, part.high)

    def apply(self) -> None:
        """Write what changes with the state, the torques, into MuJoCo's controls."""
        apply(self._simulation, self._arm_joints, self._tools, self._column_joints)

    def _set_tool_goal(
        self, arm: int, command: np.ndarray, position: np.ndarray, rotation: np.ndarray
    ) -> None:
        """Set the goal of an arm's end effector, relative to its origin at this pose."""
        tools, part = self._tools, self._arms[arm]
        change = part.controller.scale_action(command[part.entries])
        if part.mode is None or command[part.mode] <= 0:
            site = tools.site[arm]
            tools.position[arm] = rotation.T @ (self._simulation.positions[site] - position)
            tools.rotation[arm] = rotation.T @ self._simulation.rotations[site]
        # In robosuite's words, which round the rotation to single precision.
        turn = self._transforms.quat2mat(self._transforms.axisangle2quat(change[3:]))
        tools.position[arm] += change[:3]
        tools.rotation[arm] = turn @ tools.rotation[arm]


def _simulation(model: mujoco.MjModel, data: mujoco.MjData) -> Simulation:
    return Simulation(
        model._address,
        data._address,
        data.qpos,
        data.qvel,
        data.qfrc_bias,
        data.qM,
        data.site_xpos,
        data.site_xmat.reshape(-1, 3, 3),
        data.ctrl,
    )


def _parts(model: mujoco.MjModel, robots: Sequence[Any]) -> list[_Part]:
    """All parts of the robots that have actuators."""
    parts, first = [], 0
    for robot in robots:
        composite = robot.composite_controller
        last = first + robot.action_dim - 1
        mode = last if composite.name == _MOBILE else None
        for name, controller in composite.part_controllers.items():
            start, stop = composite._action_split_indexes[name]
            actuators = np.array(robot._ref_actuators_indexes_dict[name], np.int64)
            if len(actuators):
                low, high = model.actuator_ctrlrange[actuators].T.copy()
                entries = slice(first + start, first + stop)
                parts.append(_Part(robot, name, controller, entries, mode, actuators, low, high))
        first = last + 1
    return parts


def _order(robots: Sequence[Any]) -> np.ndarray:
    """For each entry of robosuite's action the entry of ours.

    Ours has 7 an arm, then for a mobile base its x, y and yaw, its column's height, and whether
    the arm shall keep its goal while the base moves.
    """
    sides = [(robot, side) for robot in robots for side in robot.arms]
    base = ACTION_SIZE_PER_ARM * len(sides)
    order: list[int] = []
    for robot in robots:
        own = {}
        for number, (of, side) in enumerate(sides):
            if of is robot:
                first = ACTION_SIZE_PER_ARM * number
                own |= {side: range(first, first + 6), f"{side}_gripper": [first + 6]}
        own |= {"base": range(base, base + 3), "torso": [base + 3]}
        composite = robot.composite_controller
        for name, (start, stop) in composite._action_split_indexes.items():
            entries = own[name]
            # A gripper of several commands takes one for all; a wiper takes none.
            order += [entries[min(entry, len(entries) - 1)] for entry in range(stop - start)]
        if composite.name == _MOBILE:
            order.append(base + 4)
    return np.array(order)


def _joints(parts: Sequence[_Part]) -> Joints:
    shape = (len(parts), _MOST_JOINTS)
    joints = Joints(
        np.array([len(part.actuators) for part in parts], np.int64),
        *(np.zeros(shape, np.int64) for _ in range(3)),
        *(np.zeros(shape) for _ in range(5)),
    )
    for row, part in enumerate(parts):
        controller, count = part.controller, joints.count[row]
        joints.qpos[row, :count] = controller.qpos_index
        joints.qvel[row, :count] = controller.qvel_index
        joints.actuator[row, :count] = part.actuators
        joints.low[row, :count], joints.high[row, :count] = part.low, part.high
        joints.kp[row, : len(controller.kp)] = controller.kp
        joints.kd[row, : len(controller.kd)] = controller.kd
        joints.goal[row, :count] = controller.initial_joint
    return joints


def _tools(model: mujoco.MjModel, arms: Sequence[_Part]) -> Tools:
    controllers = [part.controller for part in arms]
    origins = [
        model.site(f"{controller.naming_prefix}{controller.part_name}_center").id
        for controller in controllers
    ]
    fixed = [model.body_weldid[model.site_bodyid[origin]] == 0 for origin in origins]
    return Tools(
        np.array([model.site(controller.ref_name).id for controller in controllers]),
        np.array(origins),
        ~np.array(fixed),
        np.array([controller.goal_pos for controller in controllers]),
        np.array([controller.goal_ori for controller in controllers]),
    )
