"""Which dirt a wiper has wiped, as robosuite's Wipe task judges it in its reward.

robosuite asks one marker after the other, in Python; here all are asked at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_HEIGHT = 0.02  # m above the wiper's face within which dirt counts, robosuite's Wipe


class Wiping:
    """Follows the wiping of one robosuite Wipe environment and keeps its list of wiped markers."""

    def __init__(self, suite: Any) -> None:
        """Take the markers and the wiper's corners from the environment."""
        self._suite = suite
        model, markers = suite.sim.model, suite.model.mujoco_arena.markers
        self._bodies = np.array([model.body_name2id(marker.root_body) for marker in markers])
        self._geoms = np.array([model.geom_name2id(marker.visual_geoms[0]) for marker in markers])
        robot = suite.robots[0]
        corners = robot.gripper[robot.arms[0]].important_geoms["corners"]
        self._corners = np.array([model.geom_name2id(corner) for corner in corners])

    def remaining(self) -> np.ndarray:
        """Positions (n, 3) of the dirt that is left, metres, in the world."""
        return self._suite.sim.data.body_xpos[self._bodies[~self._wiped()]]

    def update(self) -> None:
        """Wipe what the wiper is on now, unless the arm itself collides or is at a joint limit."""
        suite = self._suite
        robot = suite.robots[0]
        if suite.check_contact(robot.robot_model) or robot.check_q_limits():
            return
        newly = self._touched() & ~self._wiped()
        suite.sim.model.geom_rgba[self._geoms[newly], 3] = 0.0
        markers = suite.model.mujoco_arena.markers
        suite.wiped_markers += [markers[index] for index in np.flatnonzero(newly)]

    def _wiped(self) -> np.ndarray:
        """Whether each marker is wiped, (n,) bool: it is then invisible."""
        return self._suite.sim.model.geom_rgba[self._geoms, 3] == 0.0

    def _touched(self) -> np.ndarray:
        """Whether each marker lies under the wiper's face, (n,) bool.

        The face is the parallelogram that starts at the second corner and has the first and the
        fourth for neighbours.
        """
        data = self._suite.sim.data
        if data.ncon == 0:
            return np.zeros(len(self._bodies), bool)
        first, origin, _, fourth = data.geom_xpos[self._corners]
        sides = np.stack([first - origin, fourth - origin])
        lengths = np.linalg.norm(sides, axis=1)
        axes = sides / lengths[:, None]
        normal = np.cross(axes[0], axes[1])
        offset = data.body_xpos[self._bodies] - origin
        height = offset @ (normal / np.linalg.norm(normal))
        along = offset @ axes.T
        inside = ((along > 0.0) & (along < lengths)).all(axis=1)
        return (height > 0.0) & (height < _HEIGHT) & inside
