"""The Gymnasium environment: one task on one arm, the same layout for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import EzPickle, RecordConstructorArgs

from octo_bench.definitions.environments import HOLD_STEPS, IMAGE_SIZE, environment
from octo_bench.definitions.suites import find_level
from octo_bench.errors import BadAction, BadArgument, UnknownName
from octo_bench.rendering.cameras import CameraPose, placed
from octo_bench.rendering.renderers import Quality, Renderer, make_renderer
from octo_bench.simulation.initial_states import environment_seed, initial_scene
from octo_bench.simulation.perturbations import plain, vary
from octo_bench.simulation.stages import StageTracker
from octo_bench.simulation.world import CONTROL_FREQUENCY, Control, World

CLOSING_STEPS = 12
"""Control steps in which the commanded closing in `proprio` goes from open to closed: as long as
the scripted experts close at most, whatever the gripper."""
_WRIST_VIEWS = ("image_wrist", "image_wrist_2")
_FILM_SIZE = 256
_FARTHEST = 3.0
_IMAGE_SIZES = range(8, 2049)


class OctoBenchEnvironment(gymnasium.Env[dict[str, np.ndarray], np.ndarray], EzPickle):
    """A task on an arm.

    Observations: `image_primary` (front view) and `image_wrist`, (size, size, 3) uint8, from
    cameras that are the same on every arm; `proprio` (11 an arm,) float32: end-effector position in
    the workspace frame (3, metres), end-effector orientation as the first two columns of its
    rotation matrix (6; Zhou et al., "On the Continuity of Rotation Representations", 2019), gripper
    opening (1, 0 closed to 1 open), and the commanded closing (1, from 0 to 1): how far a gripper
    without anything in it would have closed on the commands so far if it took `CLOSING_STEPS`. The
    last says the same on every arm, where the opening depends on the gripper and on what it holds.
    With two arms, `image_wrist_2` is from the second one's wrist.

    Actions (7 an arm,) float32 in [-1, 1]: change of position (1 is 5 cm), change of orientation
    as a rotation vector (1 is 0.5 rad), both along the world's axes, and the gripper (+1 closes).
    A mobile base adds entries of its own.

    `suite` and `level` name the perturbation, "" and 0 if there is none.

    The reward is 1 in a step after which the task is done, by robosuite's own check, else 0. After
    the first success an episode goes on for `HOLD_STEPS` steps, then it is terminated, whether
    the success has held or not. Without a success it is truncated at the horizon.

    `info` has the `instruction`; `success`, whether the task is done now; `success_once`, whether
    it was after some step; `first_success_step`, counted from 1, 0 if there was none;
    `success_held`, whether it is done at the end of the `HOLD_STEPS` steps, False before; and
    `furthest_stage`.

    A copy or an unpickled environment is a new one with the same arguments, to be reset first.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_FREQUENCY,
    }

    def __init__(
        self,
        env_id: str,
        *,
        render: Quality = "fast",
        control: Control = "fast",
        image_size: int = IMAGE_SIZE,
        images: bool = True,
        render_mode: str | None = None,
        suite: str = "",
        level: int = 1,
        horizon: int | None = None,
    ) -> None:
        """Build the environment.

        Args:
            env_id: which one, as in `octo-bench envs`.
            render: "fast" for simplified meshes without shadows, drawn on the processor; "stock"
                for robosuite's look, drawn with OpenGL.
            control: "fast" for compiled torques, "stock" for robosuite's own; they agree to
                rounding.
            image_size: height and width of the images, pixels.
            images: without them, observations are `proprio` alone and nothing is drawn.
            render_mode: "rgb_array" lets `render()` give a larger front view.
            suite: the perturbation of what is seen or said, as in `envs/suites/`; none if empty.
            level: how much of it, from 1.
            horizon: control steps after which an episode without success is truncated; the
                task's own if None.

        Raises:
            UnknownName: for an `env_id` or a `suite` that is not declared, and for another word
                than those above.
            BadArgument: for a size or a horizon that is not a valid number.
            UnknownLevel: for a level that the suite does not have.
            BadDefinition: for a declaration that robosuite cannot build.
            MissingDependency: when what it draws with is missing.
            UnsupportedEnvironment: for a kind of geom that the fast look does not draw.
        """
        _require_word("render", render, get_args(Quality))
        _require_word("control", control, get_args(Control))
        if render_mode is not None:
            _require_word("render_mode", render_mode, self.metadata["render_modes"])
        if not _is_whole(image_size) or image_size not in _IMAGE_SIZES:
            sizes = f"a whole number from {_IMAGE_SIZES[0]} to {_IMAGE_SIZES[-1]}"
            raise BadArgument("image_size", image_size, sizes)
        if horizon is not None and (not _is_whole(horizon) or horizon < 1):
            raise BadArgument("horizon", horizon, "a whole number from 1, or None")
        EzPickle.__init__(
            self,
            env_id,
            render=render,
            control=control,
            image_size=image_size,
            images=images,
            render_mode=render_mode,
            suite=suite,
            level=level,
            horizon=horizon,
        )
        self.render_mode = render_mode
        self.suite, self.level = (suite, level) if suite else ("", 0)
        self._perturbation = find_level(suite, level) if suite else None
        self.world = World(environment(env_id), control)
        self._quality = render
        self._images = images
        self._renderer = make_renderer(self.world.model, image_size, render) if images else None
        self._film_renderer: Renderer | None = None
        self._variation = plain(self.world.declared.task)
        self.horizon = self.world.declared.task.horizon if horizon is None else horizon
        self._steps = self._first_success = 0
        self._held = False
        self._stages: StageTracker | None = None

        arms = len(self.world.declared.embodiment.arms)
        self._closing = np.zeros(arms)
        self._gripper_entries = list(self.world.declared.gripper_entries)
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        proprio = spaces.Box(
            np.array(([-_FARTHEST] * 3 + [-1.0] * 6 + [0.0] * 2) * arms, np.float32),
            np.array(([_FARTHEST] * 3 + [1.0] * 6 + [1.0] * 2) * arms, np.float32),
        )
        self._views = ("image_primary", *_WRIST_VIEWS[:arms])
        seen = dict.fromkeys(self._views, image) if images else {}
        self.observation_space = spaces.Dict({**seen, "proprio": proprio})
        self.action_space = spaces.Box(-1.0, 1.0, (self.world.declared.action_size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode. `seed` determines all of it; without one, the next is drawn.

        With `options={"initial_state": k}`, it starts at state k of the frozen bank.

        Raises:
            UnknownName: for another option.
            UnknownInitialState: when there is no such state.
            BadInitialStates: for a bank that is not what was frozen.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options.keys() - {"initial_state"}:
            raise UnknownName("reset option", name, ["initial_state"])
        if "initial_state" in options:
            self.world.reset_to(initial_scene(self.world.declared, options["initial_state"]))
            episode_seed = environment_seed(0, options["initial_state"])
        else:
            episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
            self.world.reset(episode_seed)
        if self._perturbation is not None:
            self._variation = vary(self._perturbation, self.suite, episode_seed, self.world)
            for renderer in self._renderers():
                renderer.wear(self._variation.look)
        self._steps = self._first_success = 0
        self._held = False
        self._closing[:] = 0.0
        self._stages = StageTracker(self.world)
        return self._observation(), self._info(succeeded=False)

    def step(
        self, action: np.ndarray, *, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance by 1/20 s; entries of `action` beyond [-1, 1] are clipped.

        Args:
            action: (action size,).
            observe: if not, the observation is empty and nothing is drawn: most of a step's time,
                wasted inside a chunk of actions whose policy does not look before its end.

        Raises:
            ResetNeeded: before the first reset.
            BadAction: for another shape, or entries that are no finite numbers; nothing is changed.
        """
        if self._stages is None:
            raise ResetNeeded("there is no episode yet: call reset() before step()")
        action = np.clip(checked_action(action, self.action_space.shape), -1.0, 1.0)
        self.world.step(action)
        self._steps += 1
        self._closing = closing_after(self._closing, action[self._gripper_entries])
        succeeded = self.world.succeeded()
        self._stages.update(succeeded)
        if succeeded and not self._first_success:
            self._first_success = self._steps
        held_for = self._steps - self._first_success if self._first_success else 0
        if held_for == HOLD_STEPS and succeeded:
            self._held = True
            self._stages.hold()
        terminated = held_for >= HOLD_STEPS
        truncated = self._steps >= self.horizon and not self._first_success
        info = self._info(succeeded)
        observation = self._observation() if observe else {}
        return observation, float(succeeded), terminated, truncated, info

    @property
    def holding(self) -> bool:
        """Whether the task was done after some step of the present episode."""
        return self._first_success > 0

    def lengthen(self, horizon: int) -> None:
        """Truncate episodes without success at `horizon` steps from now on, if that is later."""
        self.horizon = max(self.horizon, horizon)
        self._ezpickle_kwargs["horizon"] = self.horizon

    def render(self) -> np.ndarray | None:
        """The front view, (256, 256, 3) uint8, with `render_mode="rgb_array"`; else None."""
        if self.render_mode != "rgb_array":
            return None
        if self._film_renderer is None:
            self._film_renderer = make_renderer(self.world.model, _FILM_SIZE, self._quality)
            self._film_renderer.wear(self._variation.look)
        return self._film_renderer.frames(self.world.qpos, [self._primary()])[0]

    def cameras(self) -> list[CameraPose]:
        """Where the cameras of the observations are now, in the order of the images."""
        arms = range(len(self.world.declared.embodiment.arms))
        return [self._primary(), *(self._wrist(arm) for arm in arms)]

    def close(self) -> None:
        """Free the simulation and its renderers."""
        for renderer in self._renderers():
            renderer.close()
        self._renderer = self._film_renderer = None
        self.world.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**EzPickle.__getstate__(self), "spec": self.spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        EzPickle.__setstate__(self, state)
        self.spec = state["spec"]

    def _observation(self) -> dict[str, np.ndarray]:
        arms = range(len(self.world.declared.embodiment.arms))
        observation = {"proprio": np.concatenate([self._proprio(arm) for arm in arms])}
        if self._renderer is not None:
            frames = self._renderer.frames(self.world.qpos, self.cameras())
            observation = {**dict(zip(self._views, frames, strict=True)), **observation}
        return observation

    def _proprio(self, arm: int) -> np.ndarray:
        tool = self.world.tool(arm)
        return np.concatenate(
            [
                (tool.position - self.world.workspace).clip(-_FARTHEST, _FARTHEST),
                tool.rotation[:, :2].T.ravel().clip(-1.0, 1.0),
                [self.world.opening(arm), self._closing[arm]],
            ]
        ).astype(np.float32)

    def _info(self, succeeded: bool) -> dict[str, Any]:
        return {
            "instruction": self._variation.instruction,
            "success": succeeded,
            "success_once": self._first_success > 0,
            "success_held": self._held,
            "first_success_step": self._first_success,
            "furthest_stage": self._stages.furthest,
        }

    def _renderers(self) -> list[Renderer]:
        return [each for each in (self._renderer, self._film_renderer) if each is not None]

    def _primary(self) -> CameraPose:
        return placed(self._variation.primary_camera, self.world.workspace, np.eye(3))

    def _wrist(self, arm: int) -> CameraPose:
        tool = self.world.tool(arm)
        return placed(self._variation.wrist_camera, tool.position, tool.rotation)


class Lengthened(gymnasium.Wrapper, RecordConstructorArgs):
    """Makes `gymnasium.make(..., max_episode_steps=n)` lengthen the episodes of the environment.

    Gymnasium itself only cuts them off earlier. `n` is what an episode takes at most: the horizon
    and the steps for which a success has to hold.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        """Around an environment whose `spec` has the limit."""
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        limit = None if env.spec is None else env.spec.max_episode_steps
        if limit is not None:
            env.unwrapped.lengthen(limit - HOLD_STEPS)


def checked_action(action: object, shape: tuple[int, ...]) -> np.ndarray:
    """An action as float64.

    Raises:
        BadAction: for another shape, or entries that are no finite numbers.
    """
    try:
        found = np.asarray(action)
    except ValueError as ragged:
        raise BadAction(f"an action is not an array of numbers ({ragged})") from ragged
    if found.dtype.kind not in "fiu":
        raise BadAction(f"an action has entries of type {found.dtype}; use float32")
    if found.shape != shape:
        raise BadAction(f"an action has shape {found.shape}; this environment takes {shape}")
    if not np.isfinite(found).all():
        raise BadAction(f"an action has entries that are not finite: {found.tolist()}")
    return found.astype(np.float64)


def _require_word(argument: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownName(argument, str(value), known)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def closing_after(closing: np.ndarray, command: np.ndarray) -> np.ndarray:
    """The commanded closing of `proprio` one control step on, 0 open to 1 closed, for each arm.

    Args:
        closing: before the step.
        command: the gripper's entry of the action; only its sign counts, as for the grippers.
    """
    return np.clip(closing + np.sign(command) / CLOSING_STEPS, 0.0, 1.0)
