"""The operational-space controller of robosuite, compiled.

robosuite computes torques in Python at 500 Hz, which costs several times what the physics costs.
Here its own code answers the first substep of a control step, where goals are set and grippers
are commanded, and compiled code on MuJoCo's arrays gives the same torques in the others: pose
errors to decoupled forces (Khatib, "A unified approach for motion and force control of robot
manipulators", 1987, position and orientation decoupled as robosuite does), and posture torques
in the null space.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numba import njit

_POSTURE_KP = 10.0  # robosuite.utils.control_utils.nullspace_torques


class OperationalSpaceControl:
    """Drives one arm of a robosuite environment whose arm controller is a fixed OSC_POSE."""

    def __init__(self, robot: Any, arm: str) -> None:
        """Take over gains and indices from a robosuite robot; it makes new ones at each reset."""
        self._controller = robot.part_controllers[arm]
        self._model = robot.sim.model._model
        self._data = robot.sim.data._data
        self._site = self._model.site(self._controller.ref_name).id
        prefix, part = self._controller.naming_prefix, self._controller.part_name
        self._base = self._model.site(f"{prefix}{part}_center").id
        self._qpos = np.array(self._controller.qpos_index)
        self._qvel = np.array(self._controller.qvel_index)
        self._actuators = np.array(robot._ref_actuators_indexes_dict[arm])
        limits = self._model.actuator_ctrlrange
        self._low, self._high = limits[self._actuators].T.copy()
        self._kp, self._kd = np.array(self._controller.kp), np.array(self._controller.kd)
        self._jacobian = np.zeros((6, self._model.nv))
        self._base_jacobian = np.zeros((6, self._model.nv))
        self._mass = np.zeros((self._model.nv, self._model.nv))

    def apply(self) -> None:
        """Write the torques for the present state into the controls; after an `mj_step1`."""
        self._data.ctrl[self._actuators] = self.torques()

    def torques(self) -> np.ndarray:
        """Joint torques (n,) for the present state, within the actuators' limits."""
        data, tool, base = self._data, self._jacobian, self._base_jacobian
        mujoco.mj_jacSite(self._model, data, tool[:3], tool[3:], self._site)
        mujoco.mj_jacSite(self._model, data, base[:3], base[3:], self._base)
        mujoco.mj_fullM(self._model, self._mass, data.qM)
        return _torques(
            tool,
            base,
            self._mass,
            data.qpos,
            data.qvel,
            data.qfrc_bias,
            self._qpos,
            self._qvel,
            data.site_xpos[self._site],
            data.site_xmat[self._site],
            data.site_xpos[self._base],
            data.site_xmat[self._base],
            self._controller.goal_pos,
            self._controller.goal_ori,
            self._kp,
            self._kd,
            self._controller.initial_joint,
            self._low,
            self._high,
        )


@njit(cache=True)
def _torques(
    jacobian: np.ndarray,
    base_jacobian: np.ndarray,
    full_mass: np.ndarray,
    qpos: np.ndarray,
    qvel: np.ndarray,
    bias: np.ndarray,
    qpos_index: np.ndarray,
    qvel_index: np.ndarray,
    position: np.ndarray,
    rotation: np.ndarray,
    base_position: np.ndarray,
    base_rotation: np.ndarray,
    goal_in_base: np.ndarray,
    goal_rotation_in_base: np.ndarray,
    kp: np.ndarray,
    kd: np.ndarray,
    posture: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """The torques of `OperationalSpaceControl.torques`; poses' rotations are row-major (9,)."""
    n = len(qvel_index)
    J = np.empty((6, n))
    M = np.empty((n, n))
    rate = np.empty(n)
    for i in range(n):
        rate[i] = qvel[qvel_index[i]]
        for k in range(6):
            J[k, i] = jacobian[k, qvel_index[i]]
        for j in range(n):
            M[i, j] = full_mass[qvel_index[i], qvel_index[j]]

    base = base_rotation.reshape(3, 3)
    goal_position = base_position + base @ goal_in_base
    goal_rotation = base @ goal_rotation_in_base

    # Pose error: half the sum of cross products of the axes (Luh, Walker, Paul 1980).
    wrench = np.zeros(6)
    for k in range(3):
        wrench[k] = kp[k] * (goal_position[k] - position[k])
    for axis in range(3):
        for k in range(3):
            a, b = (k + 1) % 3, (k + 2) % 3
            cross = (
                rotation[3 * a + axis] * goal_rotation[b, axis]
                - rotation[3 * b + axis] * goal_rotation[a, axis]
            )
            wrench[3 + k] += 0.5 * kp[3 + k] * cross
    for k in range(6):
        speed = 0.0
        for i in range(len(qvel)):
            speed += (jacobian[k, i] - base_jacobian[k, i]) * qvel[i]
        wrench[k] -= kd[k] * speed

    # Inverse inertia seen at the tool, J M^-1 J^T.
    mobility = J @ _solve(M, np.ascontiguousarray(J.T))
    force = np.empty(6)
    force[:3] = _solve(mobility[:3, :3].copy(), wrench[:3].copy().reshape(3, 1))[:, 0]
    force[3:] = _solve(mobility[3:, 3:].copy(), wrench[3:].copy().reshape(3, 1))[:, 0]

    # Posture torques M x, less what of them would move the tool.
    kd_posture = 2.0 * np.sqrt(_POSTURE_KP)
    wanted = np.empty(n)
    for i in range(n):
        wanted[i] = _POSTURE_KP * (posture[i] - qpos[qpos_index[i]]) - kd_posture * rate[i]
    felt = _solve(mobility, (J @ wanted).reshape(6, 1))[:, 0]
    torque = M @ wanted + J.T @ (force - felt)
    for i in range(n):
        torque[i] = min(max(torque[i] + bias[qvel_index[i]], low[i]), high[i])
    return torque


@njit(cache=True)
def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """X of `matrix` X = `right`, for a symmetric positive definite matrix, by Cholesky."""
    n, m = right.shape
    L = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            L[i, j] = np.sqrt(total) if i == j else total / L[j, j]
    X = right.copy()
    for column in range(m):
        for i in range(n):
            for k in range(i):
                X[i, column] -= L[i, k] * X[k, column]
            X[i, column] /= L[i, i]
        for i in range(n - 1, -1, -1):
            for k in range(i + 1, n):
                X[i, column] -= L[k, i] * X[k, column]
            X[i, column] /= L[i, i]
    return X
