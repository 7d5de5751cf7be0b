"""Golden answers: the baseline's actions on stored observations, to compare a checkpoint with.

It takes seconds and no simulation. What it shows is limited. Answers that differ show that the
checkpoint is another policy, not that it is a worse one: episodes tell that. Answers that agree
show that nothing changed on the way from these observations to these actions (weights, scaling,
preprocessing, sampling), as after an export, an upgrade or a refactoring; of a policy that was
trained on they prove nothing beyond these observations. So neither ends the gate by itself.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from octo_bench.agents.history import PAD_MASK
from octo_bench.agents.inference import Inference, described
from octo_bench.agents.protocol import Agent, TaskInput
from octo_bench.agents.sources import load_agent, policy_fingerprint, source_of
from octo_bench.comparison.matching import EpisodeSet
from octo_bench.comparison.regression import Place, inference_of, study_seed_of
from octo_bench.definitions.environments import environment
from octo_bench.errors import BadGolden, BadInference
from octo_bench.files import atomic_path
from octo_bench.reading import parse_json, require_regular
from octo_bench.rollouts.episodes import use_one_thread
from octo_bench.rollouts.visited import Visited, ask, visit
from octo_bench.shapes import FLAG, TEXT, WHOLE, List, Table, problem_of

TOLERANCE = 1e-5
"""Of an action's entries, which go from -1 to 1: more than rounding on another processor, less
than any training does."""

_FORMAT = 1
_EPISODES = 4
"""Of each environment, whose first moments are kept."""
_LARGEST_FILE = 2**30
_DESCRIPTION = Table(
    {
        "format": WHOLE,
        "policy": TEXT,
        "sha256": TEXT,
        "inference": TEXT,
        "places": List(
            Table(
                {"env_id": TEXT, "instructions": List(TEXT), "has_goal": List(FLAG)},
                {},
            )
        ),
    },
    {},
)
_ARRAYS = ("goals", "episodes", "noise", "actions")
_SEEN = "observations/"
_FIX = "make it again with `octo-bench regress BASELINE_POLICY --baseline RECORDS --write-golden`"


@dataclass(frozen=True)
class GoldenPlace:
    """The answers in one environment.

    Attributes:
        visited: N observations.
        noise: (N, ...) of these queries.
        actions: (N, T, A) that it answered, the chunks before any execution.
    """

    env_id: str
    visited: Visited
    noise: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Golden:
    """The answers of one policy.

    Attributes:
        policy: what it was called.
        sha256: of its files.
        inference: its inference options, without those that come after the network; see
            `_asked_plainly`.
    """

    policy: str
    sha256: str
    inference: Inference
    places: tuple[GoldenPlace, ...]


@dataclass(frozen=True)
class GoldenCheck:
    """How a checkpoint's answers compare.

    Attributes:
        observations: how many were compared.
        agreeing: how many of them had all entries of the action within `tolerance`.
        largest: the largest difference of an entry.
        same_files: whether configuration, weights and statistics are the baseline's, bit for bit.
        obstacle: why the policy cannot take the observations, "" if it can.
    """

    observations: int
    agreeing: int
    largest: float
    tolerance: float
    same_files: bool
    obstacle: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all answers do."""
        return not self.obstacle and self.agreeing == self.observations


def golden_path(records: Path) -> Path:
    """Where the golden answers that belong to a file of records are: beside it."""
    return records.with_suffix(".golden.npz")


def record_golden(policy: str, baseline: EpisodeSet) -> Golden:
    """Record the baseline's actions on what it sees in its first episodes in each environment.

    Raises:
        BadInference: for the scripted expert, who looks at the simulation itself.
        OctoBenchError: when the policy or an environment is not available.
    """
    if source_of(policy).privileged:
        raise BadInference(
            "the scripted expert reads the simulation, not observations; name a policy"
        )
    use_one_thread()
    inference = _asked_plainly(inference_of(baseline))
    episodes: dict[Place, list[int]] = {}
    for record in baseline.records:
        if not record.error:
            episodes.setdefault(Place.of(record), []).append(record.episode)
    places = []
    for place, numbers in episodes.items():
        agent = load_agent(policy, environment(place.env_id), inference)
        seen = visit(
            agent,
            place.env_id,
            sorted(numbers)[:_EPISODES],
            study_seed_of(baseline),
            suite=place.suite,
            level=place.level,
            window=agent.window,
            images=agent.wants_images,
            goals=agent.wants_goal,
        )
        places.append(GoldenPlace(place.env_id, *seen))
    return Golden(policy, policy_fingerprint(policy), inference, tuple(places))


def check_golden(policy: str, golden: Golden, tolerance: float = TOLERANCE) -> GoldenCheck:
    """Compare a checkpoint with the baseline's golden answers.

    Raises:
        OctoBenchError: when the policy is not available.
    """
    use_one_thread()
    differences, obstacle = [], ""
    for place in golden.places:
        agent = load_agent(policy, environment(place.env_id), golden.inference)
        obstacle = _obstacle(agent, place)
        if obstacle:
            break
        actions = ask(agent, place.visited, place.noise)
        if actions.shape != place.actions.shape:
            obstacle = (
                f"it returns chunks of {actions.shape[1]} actions, not {place.actions.shape[1]}"
            )
            break
        differences.append(np.abs(actions - place.actions).max(axis=(1, 2)))
    found = np.concatenate(differences) if differences and not obstacle else np.zeros(0)
    return GoldenCheck(
        observations=len(found),
        agreeing=int((found <= tolerance).sum()),
        largest=float(found.max(initial=0.0)),
        tolerance=tolerance,
        same_files=policy_fingerprint(policy) == golden.sha256,
        obstacle=obstacle,
    )


def write_golden(golden: Golden, path: Path) -> None:
    """Write golden answers as a compressed .npz without any Python objects in it.

    Raises:
        BadFile: when the disk is full.
    """
    arrays: dict[str, np.ndarray] = {}
    places = []
    for number, place in enumerate(golden.places):
        tasks = place.visited.tasks
        goals = [task.goal for task in tasks]
        blank = np.zeros_like(next((goal for goal in goals if goal is not None), np.zeros(0)))
        contents = {
            **{_SEEN + key: values for key, values in place.visited.observations.items()},
            "goals": np.stack([blank if goal is None else goal for goal in goals]),
            "episodes": place.visited.episodes,
            "noise": place.noise,
            "actions": place.actions,
        }
        arrays |= {f"{number}/{key}": values for key, values in contents.items()}
        places.append(
            {
                "env_id": place.env_id,
                "instructions": [task.instruction for task in tasks],
                "has_goal": [goal is not None for goal in goals],
            }
        )
    description = {
        "format": _FORMAT,
        "policy": golden.policy,
        "sha256": golden.sha256,
        "inference": golden.inference.description,
        "places": places,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, description=np.array(json.dumps(description)), **arrays)


def read_golden(path: Path) -> Golden:
    """Read golden answers.

    Raises:
        BadGolden: for a file that is missing, broken, or something else.
    """
    require_regular(path, BadGolden, _FIX, missing=_FIX.replace("again ", ""), limit=_LARGEST_FILE)
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(each.file_size for each in packed.infolist()) > _LARGEST_FILE:
                raise BadGolden(path, "unpacks to more than it can hold", _FIX)
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        description = parse_json(str(arrays.pop("description")))
        if problem := problem_of(description, _DESCRIPTION):
            raise ValueError(problem)
        if description["format"] != _FORMAT:
            raise BadGolden(path, f"has format {description['format']}, not {_FORMAT}", _FIX)
        return Golden(
            policy=description["policy"],
            sha256=description["sha256"],
            inference=described(description["inference"]),
            places=tuple(
                _place(each, number, arrays) for number, each in enumerate(description["places"])
            ),
        )
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,  # a packing that is unknown, or asks for a password
        MemoryError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as broken:
        raise BadGolden(path, f"has no golden answers ({broken})", _FIX) from broken


def _place(described_as: dict[str, Any], number: int, arrays: dict[str, np.ndarray]) -> GoldenPlace:
    own = {
        name.removeprefix(f"{number}/"): values
        for name, values in arrays.items()
        if name.startswith(f"{number}/")
    }
    goals, episodes, noise, actions = (own[name] for name in _ARRAYS)
    tasks = tuple(
        TaskInput(instruction, goal if has_goal else None)
        for instruction, goal, has_goal in zip(
            described_as["instructions"], goals, described_as["has_goal"], strict=True
        )
    )
    observations = {
        name.removeprefix(_SEEN): values for name, values in own.items() if name.startswith(_SEEN)
    }
    lengths = {len(values) for values in (*observations.values(), episodes, noise, actions, tasks)}
    if PAD_MASK not in observations or len(lengths) != 1 or actions.ndim != 3:
        raise ValueError(f"the arrays of environment {number} do not fit each other")
    if episodes.ndim != 1 or episodes.dtype.kind not in "iu":
        raise ValueError(f"the episodes of environment {number} are no numbers")
    for name, values in (("noise", noise), ("actions", actions), *observations.items()):
        if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
            raise ValueError(f"'{name}' of environment {number} has a value that is not finite")
    if any(values.ndim < 2 for values in (*observations.values(), goals[:, None])):
        raise ValueError(f"the observations of environment {number} have too few axes")
    return GoldenPlace(
        described_as["env_id"], Visited(observations, tasks, episodes), noise, actions
    )


def _obstacle(agent: Agent, place: GoldenPlace) -> str:
    """Why a policy cannot take the stored observations; "" if it can."""
    if agent.window != place.visited.window:
        return f"its observation horizon is {agent.window}, the baseline's {place.visited.window}"
    if agent.noise_shape != place.noise.shape[1:]:
        return "its head draws other noise than the baseline's"
    if agent.wants_images != ("image_primary" in place.visited.observations):
        return "only one of it and the baseline uses images"
    return ""


def _asked_plainly(inference: Inference) -> Inference:
    """The inference options of the network, without those that execute its chunks."""
    return replace(inference, execute=None, ensemble=False)
