"""The Gymnasium environment: one task on one arm, the same layout for all."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from octo_bench.definitions import Camera, environment
from octo_bench.simulation.rendering import CameraPose, Quality, Renderer, look_at
from octo_bench.simulation.stages import StageTracker
from octo_bench.simulation.world import CONTROL_FREQUENCY, Control, World

IMAGE_SIZE = 96
PROPRIO_SIZE = 10
_FILM_SIZE = 256
_FARTHEST = 3.0


class OctoBenchEnvironment(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A task on an arm.

    Observations: `image_primary` (front view) and `image_wrist`, (size, size, 3) uint8, from
    cameras that are the same on every arm; `proprio` (10,) float32: tool position in the
    workspace frame (3, metres), tool orientation as the first two columns of its rotation matrix
    (6; Zhou et al., "On the Continuity of Rotation Representations", 2019), gripper opening
    (1, 0 closed to 1 open).

    Actions (7,) float32 in [-1, 1]: change of position (1 is 5 cm), change of orientation as a
    rotation vector (1 is 0.5 rad), both along the base's axes, and the gripper (+1 closes).

    `info` has the `instruction`, `success` and `furthest_stage`. The reward is 1 on success, else
    0; an episode is terminated by success and truncated at the task's horizon.
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
    ) -> None:
        """Build the environment.

        Args:
            env_id: which one, as in `octo-bench envs`.
            render: "fast" for simplified meshes without shadows, "stock" for robosuite's look.
            control: "fast" for compiled torques, "stock" for robosuite's own; they agree to
                rounding.
            image_size: height and width of the images, pixels.
            images: without them, observations are `proprio` alone and nothing is drawn.
            render_mode: "rgb_array" lets `render()` give a larger front view.

        Raises:
            UnknownName: for an `env_id` that is not declared.
            BadDefinition: for a declaration that robosuite cannot build.
        """
        self.render_mode = render_mode
        self.world = World(environment(env_id), control)
        self._quality = render
        self._images = images
        self._renderer = Renderer(self.world.model, image_size, render) if images else None
        self._film_renderer: Renderer | None = None
        self._steps = 0
        self._stages: StageTracker | None = None

        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        proprio = spaces.Box(
            np.array([-_FARTHEST] * 3 + [-1.0] * 6 + [0.0], np.float32),
            np.array([_FARTHEST] * 3 + [1.0] * 6 + [1.0], np.float32),
        )
        seen = {"image_primary": image, "image_wrist": image} if images else {}
        self.observation_space = spaces.Dict({**seen, "proprio": proprio})
        self.action_space = spaces.Box(-1.0, 1.0, (self.world.declared.action_size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode. `seed` determines all of it; without one, the next is drawn."""
        super().reset(seed=seed)
        episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        self.world.reset(episode_seed)
        self._steps = 0
        self._stages = StageTracker(self.world)
        return self._observation(), self._info(succeeded=False)

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance by 1/20 s; entries of `action` beyond [-1, 1] are clipped."""
        self.world.step(np.clip(np.asarray(action, np.float64), -1.0, 1.0))
        self._steps += 1
        succeeded = self.world.succeeded()
        self._stages.update(succeeded)
        truncated = self._steps >= self.world.declared.task.horizon and not succeeded
        info = self._info(succeeded)
        return self._observation(), float(succeeded), succeeded, truncated, info

    def render(self) -> np.ndarray | None:
        """The front view, (256, 256, 3) uint8, with `render_mode="rgb_array"`; else None."""
        if self.render_mode != "rgb_array":
            return None
        if self._film_renderer is None:
            self._film_renderer = Renderer(self.world.model, _FILM_SIZE, self._quality)
        return self._film_renderer.frames(self.world.qpos, [self._primary()])[0]

    def close(self) -> None:
        """Free the simulation and its renderers."""
        for renderer in (self._renderer, self._film_renderer):
            if renderer is not None:
                renderer.close()
        self._renderer = self._film_renderer = None
        self.world.close()

    def _observation(self) -> dict[str, np.ndarray]:
        tool = self.world.tool()
        proprio = np.concatenate(
            [
                (tool.position - self.world.workspace).clip(-_FARTHEST, _FARTHEST),
                tool.rotation[:, :2].T.ravel().clip(-1.0, 1.0),
                [self.world.opening()],
            ]
        ).astype(np.float32)
        observation = {"proprio": proprio}
        if self._renderer is not None:
            cameras = [self._primary(), self._wrist()]
            primary, wrist = self._renderer.frames(self.world.qpos, cameras)
            observation = {"image_primary": primary, "image_wrist": wrist, **observation}
        return observation

    def _info(self, succeeded: bool) -> dict[str, Any]:
        return {
            "instruction": self.world.declared.task.instruction,
            "success": succeeded,
            "furthest_stage": self._stages.furthest,
        }

    def _primary(self) -> CameraPose:
        return _placed(self.world.declared.task.primary_camera, self.world.workspace, np.eye(3))

    def _wrist(self) -> CameraPose:
        tool = self.world.tool()
        return _placed(self.world.declared.task.wrist_camera, tool.position, tool.rotation)


def _placed(camera: Camera, origin: np.ndarray, rotation: np.ndarray) -> CameraPose:
    """A declared camera in the world, its frame being at `origin` with `rotation`."""
    position = origin + rotation @ np.array(camera.position)
    target = origin + rotation @ np.array(camera.target)
    return look_at(position, target, rotation @ np.array(camera.up), camera.fovy)
