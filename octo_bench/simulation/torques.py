"""The torques of robosuite's controllers, compiled, with MuJoCo's steps between them.

Pose errors become decoupled forces (Khatib, "A unified approach for motion and force control of
robot manipulators", 1987; position and orientation decoupled as robosuite does), and posture
torques act in the null space. MuJoCo is called as a C library, so that the substeps of a control
step are one call from Python.

Products and inverses of these small matrices are plain loops: quicker than calls of a linear
algebra library, and their sums are made in one order whatever the processor.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding
import mujoco
import numpy as np
from numba import njit, types

from octo_bench.simulation.compiling import announce_compilation

_POSTURE_KP = 10.0  # robosuite.utils.control_utils.nullspace_torques
# Where the diagonal of the mobility's Cholesky factor spreads further than this, the matrices are
# inverted by pseudo-inverses, in robosuite's way.
_WELL_CONDITIONED = 0.05
_CUT = 1e-15  # np.linalg.pinv
_ROUNDING = 1e-17
_MOST_SWEEPS = 30


def _link_mujoco() -> None:
    """Make functions of MuJoCo's library known to compiled code."""
    folder = Path(mujoco.__file__).parent
    names = ("libmujoco.so*", "libmujoco*.dylib", "mujoco.dll")
    library = ctypes.CDLL(str(next(path for name in names for path in folder.glob(name))))
    for name in ("mj_step1", "mj_step2", "mj_jacSite", "mj_fullM"):
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        llvmlite.binding.add_symbol(name, address)


_link_mujoco()
announce_compilation()
_address, _numbers = types.intp, types.CPointer(types.float64)
_mj_step1 = types.ExternalFunction("mj_step1", types.void(_address, _address))
_mj_step2 = types.ExternalFunction("mj_step2", types.void(_address, _address))
_mj_jac_site = types.ExternalFunction(
    "mj_jacSite", types.void(_address, _address, _numbers, _numbers, types.int32)
)
_mj_full_mass = types.ExternalFunction("mj_fullM", types.void(_address, _numbers, _numbers))


class Simulation(NamedTuple):
    """The addresses of MuJoCo's model and data, and views of their arrays."""

    model: int
    data: int
    qpos: np.ndarray
    qvel: np.ndarray
    bias: np.ndarray
    mass: np.ndarray
    positions: np.ndarray
    rotations: np.ndarray
    ctrl: np.ndarray


class Joints(NamedTuple):
    """The joints of parts, (parts, most joints) or with six gains; `count` (parts,) are in use.

    `goal` is where they shall be: for an arm the posture that it keeps as far as its end effector
    lets it.
    """

    count: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    actuator: np.ndarray
    low: np.ndarray
    high: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    goal: np.ndarray


class Tools(NamedTuple):
    """For each arm the sites of its end effector and of the origin of its goal, and the goal.

    `moves` says whether the origin does; `position` (arms, 3), `rotation` (arms, 3, 3).
    """

    site: np.ndarray
    origin: np.ndarray
    moves: np.ndarray
    position: np.ndarray
    rotation: np.ndarray


@njit(cache=True)
def advance(
    simulation: Simulation,
    arms: Joints,
    tools: Tools,
    columns: Joints,
    first: int,
    substeps: int,
) -> None:
    """The substeps of a control step from `first` on; substep 0 has its `mj_step1` behind it."""
    for substep in range(first, substeps):
        if substep > 0:
            _mj_step1(simulation.model, simulation.data)
        apply(simulation, arms, tools, columns)
        _mj_step2(simulation.model, simulation.data)


@njit(cache=True)
def apply(simulation: Simulation, arms: Joints, tools: Tools, columns: Joints) -> None:
    """Write the torques of all arms and columns for the present state."""
    nv = len(simulation.qvel)
    full_mass = np.empty((nv, nv))
    _mj_full_mass(simulation.model, full_mass.ctypes, simulation.mass.ctypes)
    for arm in range(len(arms.count)):
        jacobian = np.empty((6, nv))
        _jacobian(simulation, tools.site[arm], jacobian)
        wrench = _wrench(simulation, tools, arm, jacobian, arms.kp[arm], arms.kd[arm])
        torque = _arm_torques(simulation, arms, arm, full_mass, jacobian, wrench)
        _write(simulation, arms, arm, torque)
    for column in range(len(columns.count)):
        torque = _column_torques(simulation, columns, column, full_mass)
        _write(simulation, columns, column, torque)


@njit(cache=True)
def _write(simulation: Simulation, joints: Joints, part: int, torque: np.ndarray) -> None:
    """Add what gravity and motion ask of the joints, and write it within the actuators' limits."""
    for i in range(joints.count[part]):
        value = torque[i] + simulation.bias[joints.qvel[part, i]]
        value = min(max(value, joints.low[part, i]), joints.high[part, i])
        simulation.ctrl[joints.actuator[part, i]] = value


@njit(cache=True)
def _jacobian(simulation: Simulation, site: int, jacobian: np.ndarray) -> None:
    """Fill `jacobian` (6, nv), positions first, of a site."""
    _mj_jac_site(
        simulation.model, simulation.data, jacobian.ctypes, jacobian[3:].ctypes, np.int32(site)
    )


@njit(cache=True)
def _wrench(
    simulation: Simulation,
    tools: Tools,
    arm: int,
    jacobian: np.ndarray,
    kp: np.ndarray,
    kd: np.ndarray,
) -> np.ndarray:
    """Accelerations (6,) that lead the end effector to its goal."""
    speed = _times(jacobian, simulation.qvel)
    origin = tools.origin[arm]
    if tools.moves[arm]:
        origin_jacobian = np.empty_like(jacobian)
        _jacobian(simulation, origin, origin_jacobian)
        speed -= _times(origin_jacobian, simulation.qvel)

    axes = simulation.rotations[origin]
    goal = simulation.positions[origin] + _times(axes, tools.position[arm])
    goal_rotation = _product(axes, tools.rotation[arm])
    rotation = simulation.rotations[tools.site[arm]]
    wrench = np.empty(6)
    for k in range(3):
        wrench[k] = kp[k] * (goal[k] - simulation.positions[tools.site[arm], k])
        # Half the sum of the cross products of the axes (Luh, Walker, Paul 1980).
        a, b = (k + 1) % 3, (k + 2) % 3
        turn = 0.0
        for axis in range(3):
            turn += rotation[a, axis] * goal_rotation[b, axis]
            turn -= rotation[b, axis] * goal_rotation[a, axis]
        wrench[3 + k] = kp[3 + k] * 0.5 * turn
    for k in range(6):
        wrench[k] -= kd[k] * speed[k]
    return wrench


@njit(cache=True)
def _arm_torques(
    simulation: Simulation,
    joints: Joints,
    arm: int,
    full_mass: np.ndarray,
    full_jacobian: np.ndarray,
    wrench: np.ndarray,
) -> np.ndarray:
    """Torques (n,) that give the end effector the accelerations `wrench`, and hold the posture."""
    n = joints.count[arm]
    J = np.empty((6, n))
    M = np.empty((n, n))
    posture = np.empty(n)
    for i in range(n):
        column = joints.qvel[arm, i]
        for k in range(6):
            J[k, i] = full_jacobian[k, column]
        for j in range(n):
            M[i, j] = full_mass[column, joints.qvel[arm, j]]
        away = joints.goal[arm, i] - simulation.qpos[joints.qpos[arm, i]]
        rate = simulation.qvel[column]
        posture[i] = _POSTURE_KP * away - 2.0 * np.sqrt(_POSTURE_KP) * rate

    # With M = L L^T the mobility J M^-1 J^T is Y^T Y, where L Y = J^T.
    mass = M.copy()
    _factorise(mass, 0, n)
    Y = np.empty((n, 6))
    for k in range(6):
        for i in range(n):
            total = J[k, i]
            for j in range(i):
                total -= mass[i, j] * Y[j, k]
            Y[i, k] = total / mass[i, i]
    mobility = np.zeros((6, 6))
    for i in range(n):
        for k in range(6):
            for j in range(k + 1):
                mobility[k, j] += Y[i, k] * Y[i, j]
    decoupled = mobility.copy()
    fit = _factorise(mobility, 0, 6)
    fit &= _factorise(decoupled, 0, 3)
    fit &= _factorise(decoupled, 3, 6)
    if not fit:
        return _arm_torques_by_inverses(J, M, posture, wrench)

    force = wrench.copy()
    _solve(decoupled, force, 0, 3)
    _solve(decoupled, force, 3, 6)
    # What of the posture's torques would move the end effector is taken back.
    moved = np.zeros(6)
    for k in range(6):
        for i in range(n):
            moved[k] += J[k, i] * posture[i]
    _solve(mobility, moved, 0, 6)
    torque = np.zeros(n)
    for i in range(n):
        for j in range(n):
            torque[i] += M[i, j] * posture[j]
        for k in range(6):
            torque[i] += J[k, i] * (force[k] - moved[k])
    return torque


@njit(cache=True)
def _arm_torques_by_inverses(
    J: np.ndarray, M: np.ndarray, posture: np.ndarray, wrench: np.ndarray
) -> np.ndarray:
    """The same by pseudo-inverses, as robosuite has it, for postures near a singular one."""
    inverse = _pseudo_inverse(M)
    mobility = _product(_product(J, inverse), J.T)
    whole = _pseudo_inverse(mobility)
    force = np.empty(6)
    force[:3] = _times(_pseudo_inverse(mobility[:3, :3]), wrench[:3])
    force[3:] = _times(_pseudo_inverse(mobility[3:, 3:]), wrench[3:])
    moved = _times(whole, _times(J, posture))
    return _times(J.T, force - moved) + _times(M, posture)


@njit(cache=True)
def _times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The product of a matrix (n, m) and a vector (m,)."""
    product = np.zeros(len(matrix))
    for i in range(matrix.shape[0]):
        for k in range(matrix.shape[1]):
            product[i] += matrix[i, k] * vector[k]
    return product


@njit(cache=True)
def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The product of matrices (n, m) and (m, p)."""
    product = np.zeros((left.shape[0], right.shape[1]))
    for i in range(left.shape[0]):
        for k in range(left.shape[1]):
            for j in range(right.shape[1]):
                product[i, j] += left[i, k] * right[k, j]
    return product


@njit(cache=True)
def _pseudo_inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric positive semidefinite matrix; eigenvalues below 1e-15 of the largest are zero.

    The cut is `np.linalg.pinv`'s. Eigenvalues by Jacobi's rotations, one pair after the other
    (Golub and Van Loan, "Matrix Computations", section 8.5).
    """
    n = len(matrix)
    left = 0.5 * (matrix + matrix.T)
    axes = np.eye(n)
    for _ in range(_MOST_SWEEPS):
        off = whole = 0.0
        for i in range(n):
            whole += left[i, i] * left[i, i]
            for j in range(i):
                off += left[i, j] * left[i, j]
        if off <= _ROUNDING * _ROUNDING * whole:
            break
        for p in range(n - 1):
            for q in range(p + 1, n):
                if left[p, q] == 0.0:
                    continue
                ratio = (left[q, q] - left[p, p]) / (2.0 * left[p, q])
                tangent = 1.0 / (abs(ratio) + np.sqrt(1.0 + ratio * ratio))
                if ratio < 0.0:
                    tangent = -tangent
                cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
                sine = tangent * cosine
                for k in range(n):
                    a, b = left[k, p], left[k, q]
                    left[k, p], left[k, q] = cosine * a - sine * b, sine * a + cosine * b
                for k in range(n):
                    a, b = left[p, k], left[q, k]
                    left[p, k], left[q, k] = cosine * a - sine * b, sine * a + cosine * b
                for k in range(n):
                    a, b = axes[k, p], axes[k, q]
                    axes[k, p], axes[k, q] = cosine * a - sine * b, sine * a + cosine * b
    largest = 0.0
    for i in range(n):
        largest = max(largest, left[i, i])
    inverse = np.zeros((n, n))
    for i in range(n):
        if left[i, i] > _CUT * largest:
            for j in range(n):
                for k in range(n):
                    inverse[j, k] += axes[j, i] * axes[k, i] / left[i, i]
    return inverse


@njit(cache=True)
def _column_torques(
    simulation: Simulation, joints: Joints, part: int, full_mass: np.ndarray
) -> np.ndarray:
    """Torques (n,) that hold joints at their goal."""
    n = joints.count[part]
    wanted = np.empty(n)
    for i in range(n):
        away = joints.goal[part, i] - simulation.qpos[joints.qpos[part, i]]
        rate = simulation.qvel[joints.qvel[part, i]]
        wanted[i] = joints.kp[part, i] * away - joints.kd[part, i] * rate
    torque = np.zeros(n)
    for i in range(n):
        for j in range(n):
            torque[i] += full_mass[joints.qvel[part, i], joints.qvel[part, j]] * wanted[j]
    return torque


@njit(cache=True)
def _factorise(matrix: np.ndarray, first: int, last: int) -> bool:
    """Put the Cholesky factor of a symmetric diagonal block into its lower triangle.

    False when the block is too near to singular for the factor to be of use.
    """
    low, high = np.inf, 0.0
    for i in range(first, last):
        for j in range(first, i + 1):
            total = matrix[i, j]
            for k in range(first, j):
                total -= matrix[i, k] * matrix[j, k]
            if i > j:
                matrix[i, j] = total / matrix[j, j]
            else:
                if not total > 0.0:
                    return False
                matrix[i, i] = np.sqrt(total)
                low, high = min(low, matrix[i, i]), max(high, matrix[i, i])
    return low > _WELL_CONDITIONED * high


@njit(cache=True)
def _solve(factor: np.ndarray, vector: np.ndarray, first: int, last: int) -> None:
    """Solve for a block of `_factorise` in place of the vector's entries."""
    for i in range(first, last):
        for k in range(first, i):
            vector[i] -= factor[i, k] * vector[k]
        vector[i] /= factor[i, i]
    for i in range(last - 1, first - 1, -1):
        for k in range(i + 1, last):
            vector[i] -= factor[k, i] * vector[k]
        vector[i] /= factor[i, i]
