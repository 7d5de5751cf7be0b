"""Building robosuite's environment for a declared pair of task and embodiment."""

from __future__ import annotations

import importlib
from typing import Any

from octo_bench.definitions.environments import Environment, file_of
from octo_bench.errors import BadDefinition, MissingDependency

CONTROL_FREQUENCY = 20
_CONSTRUCTION_SEED = 20_251_101
_GRIPPER_SPEED = 0.2  # of half the range, a control step


def construct(declared: Environment, **options: Any) -> Any:
    """robosuite's environment, with nothing to render and operational-space control of all arms.

    `options` are robosuite's own and come before what is set here.

    Raises:
        BadDefinition: when robosuite has no such task or robot.
        MissingDependency: when the package that brings the robot is not installed.
    """
    import robosuite
    from robosuite.environments.base import REGISTERED_ENVS
    from robosuite.robots import ROBOT_CLASS_MAPPING

    task, embodiment = declared.task, declared.embodiment
    if embodiment.package:
        _import_robots(embodiment.package, embodiment.name)
    for kind, name, wanted, known in (
        ("tasks", task.name, task.robosuite, REGISTERED_ENVS),
        *(
            ("embodiments", embodiment.name, each, ROBOT_CLASS_MAPPING)
            for each in embodiment.robots
        ),
    ):
        if wanted not in known:
            path = file_of(kind, name)
            raise BadDefinition(
                path, f"robosuite has no '{wanted}'", f"use one of {', '.join(sorted(known))}"
            )
    suite = robosuite.make(task.robosuite, **{**robosuite_settings(declared), **options})
    for robot in suite.robots:
        root = suite.sim.model.body_name2id(robot.robot_model.root_body)
        suite.sim.model.body_pos[root] += embodiment.base_shift
        for gripper in robot.gripper.values():
            _set_speed(gripper)
        for name in embodiment.rubbing:
            geom = suite.sim.model.geom_name2id(robot.robot_model.correct_naming(name))
            suite.sim.model.geom_contype[geom] = suite.sim.model.geom_conaffinity[geom] = 0
    return suite


def robosuite_settings(declared: Environment) -> dict[str, Any]:
    """What `robosuite.make` is told about a declared pair, in types that JSON knows."""
    embodiment = declared.embodiment
    return {
        "robots": list(embodiment.robots),
        "controller_configs": [
            _controllers(robot, embodiment.base_actions) for robot in embodiment.robots
        ],
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": False,
        "control_freq": CONTROL_FREQUENCY,
        "ignore_done": True,
        "hard_reset": False,
        "seed": _CONSTRUCTION_SEED,
    }


def _set_speed(gripper: Any) -> None:
    """Let a gripper close in half a second, as most do; robosuite gives Jaco's fingers ten."""
    if gripper.dof and gripper.speed != _GRIPPER_SPEED:
        own = type(gripper)
        gripper.__class__ = type(own.__name__, (own,), {"speed": _GRIPPER_SPEED})


def _controllers(robot: str, base_actions: int) -> dict[str, Any]:
    """robosuite's operational-space control of the robot's arms; with a mobile base, its own."""
    from robosuite.controllers import load_composite_controller_config
    from robosuite.models.robots.robot_model import REGISTERED_ROBOTS

    if base_actions:
        return load_composite_controller_config(robot=robot)
    controllers = load_composite_controller_config(controller="BASIC")
    arms = REGISTERED_ROBOTS[robot].arms
    controllers["body_parts"] = {arm: controllers["body_parts"][arm] for arm in arms}
    return controllers


def _import_robots(package: str, embodiment: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as missing:
        if missing.name != package:
            raise
        path = file_of("embodiments", embodiment)
        raise MissingDependency(
            f"{path}: the robot is in the package '{package}', which is not installed; "
            "run: pip install 'octo-bench[arms]'"
        ) from missing
