"""The bank of initial states: where evaluation episodes start, frozen in files.

State k of an environment is the scene that the reset with seed `FIRST_EVALUATION_SEED` + k gives.
A bank is `initial_states/<Task>-<Embodiment>.safetensors` beside `tasks/` and `embodiments/`:
`base` (D,) is the first scene, `columns` (V,) the entries in which the scenes differ, `values`
(K, V) what they are in each. `SHA256SUMS` in the same folder lists the files as `sha256sum` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from octo_bench.definitions.environments import Environment, environment, roots
from octo_bench.errors import BadInitialStates, UnknownInitialState
from octo_bench.files import atomic_path, remove_half_written, sha256_file, write_text
from octo_bench.processes.exclusive import exclusive
from octo_bench.processes.jobs import results
from octo_bench.progress import ProgressBar
from octo_bench.reading import read_bytes, read_text
from octo_bench.simulation.world import World

FIRST_EVALUATION_SEED = 100_000_000
STATES = 200
_SEEDS_PER_STUDY = 1_000_000
FOLDER = "initial_states"
SUMS = "SHA256SUMS"
LOCK = ".lock"
_FIX = "make it again with `octo-bench freeze`"
_LARGEST_FILE = 2**30


@dataclass(frozen=True)
class Bank:
    """The frozen scenes of one environment; see the module for the arrays."""

    sha256: str
    base: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def scene(self, number: int) -> np.ndarray:
        """Scene `number`, (D,) float64, for `World.reset_to`."""
        scene = self.base.copy()
        scene[self.columns] = self.values[number]
        return scene


@cache
def find_bank(declared: Environment) -> Bank | None:
    """The bank of an environment, None if it has none; read and checked once a process.

    Raises:
        BadInitialStates: for a bank that is not what was frozen.
    """
    for root in roots():
        path = root / FOLDER / _file_name(declared)
        if path.exists():
            return _read(path)
    return None


def environment_seed(study_seed: int, episode: int) -> int:
    """The environment seed of an episode; demonstrations are collected from lower seeds."""
    return FIRST_EVALUATION_SEED + study_seed * _SEEDS_PER_STUDY + episode


def study_seed_of(env_seed: int, episode: int) -> int:
    """The study seed whose `environment_seed` of an episode is `env_seed`."""
    return (env_seed - FIRST_EVALUATION_SEED - episode) // _SEEDS_PER_STUDY


def has_initial_state(declared: Environment, study_seed: int, episode: int) -> bool:
    """Whether an episode's start is frozen: those of study seed 0, as many as there are.

    Raises:
        BadInitialStates: for a bank that is not what was frozen.
    """
    if study_seed != 0:
        return False
    bank = find_bank(declared)
    return bank is not None and episode < len(bank)


def initial_scene(declared: Environment, number: int) -> np.ndarray:
    """The frozen scene `number` of an environment, (D,) float64.

    Raises:
        BadInitialStates: for a bank that is not what was frozen.
        UnknownInitialState: when the environment has no bank, or none of that number.
    """
    bank = find_bank(declared)
    if bank is None:
        raise UnknownInitialState(
            f"{declared.id} has no frozen initial states; make them with `octo-bench freeze "
            f"{declared.id}`, or reset with a seed"
        )
    if not isinstance(number, int | np.integer) or not 0 <= number < len(bank):
        raise UnknownInitialState(
            f"{declared.id} has no initial state {number!r}; choose one of 0 to {len(bank) - 1}"
        )
    return bank.scene(number)


def own_folder(declared: Environment) -> Path:
    """Where the bank of an environment belongs: beside its task or embodiment, if not shipped."""
    shipped, *own = roots()
    for root in own:
        for kind, name in (
            ("tasks", declared.task.name),
            ("embodiments", declared.embodiment.name),
        ):
            if (root / kind / f"{name}.toml").exists():
                return root / FOLDER
    return shipped / FOLDER


def freeze(
    env_ids: Sequence[str],
    folder: Path | None = None,
    *,
    states: int = STATES,
    workers: int = 1,
    again: bool = False,
    progress: bool = True,
) -> int:
    """Make the banks of environments; returns how many were made.

    The files are the same bit for bit wherever and however often they are made. What is there,
    intact and large enough is kept, so that a freeze that was stopped goes on.

    Args:
        env_ids: the environments.
        folder: where to write, each beside its declarations if not given; `SHA256SUMS` is
            brought up to date there.
        states: initial states of each environment.
        workers: processes to work in.
        again: also make what is there.
        progress: show a progress bar.

    Raises:
        UnknownName: for an environment that is not declared.
        BadInitialStates: for a list of hashes that cannot be read.
        BadFile: when the disk is full.
        InUse: when another process is freezing into the folder.
        ProcessLost: when the processes of an environment die again and again.
    """
    declared = [environment(env_id) for env_id in env_ids]
    paths = {each.id: (folder or own_folder(each)) / _file_name(each) for each in declared}
    folders = sorted({path.parent for path in paths.values()})
    with ExitStack() as stack:
        for each in folders:
            each.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive(each, each / LOCK))
            remove_half_written(each)
        missing = [each for each in paths if again or not _is_frozen(paths[each], states)]
        bar = stack.enter_context(
            ProgressBar(total=len(paths), initial=len(paths) - len(missing), disable=not progress)
        )
        bar.set_description("freeze")
        jobs = [(each, states) for each in missing]
        for number, bank in stack.enter_context(closing(_banks(jobs, workers))):
            path = paths[missing[number]]
            with atomic_path(path) as temporary:
                save_file(bank, temporary)
            _add_sum(path)
            bar.update()
    return len(missing)


@dataclass(frozen=True)
class FolderCheck:
    """The result of checking a folder of initial states: one line per problem."""

    folder: Path
    files: int
    intact: int
    problems: tuple[str, ...]


def check_all_sums() -> list[FolderCheck]:
    """Check the shipped banks, and those beside declarations of one's own.

    Raises:
        BadInitialStates: when a list of hashes is missing or cannot be read.
    """
    shipped, *own = [root / FOLDER for root in roots()]
    return [check_sums(folder) for folder in (shipped, *filter(Path.is_dir, own))]


def check_sums(folder: Path) -> FolderCheck:
    """Check the banks of a folder against its list of hashes.

    Raises:
        BadInitialStates: when the list is missing or cannot be read.
    """
    sums = read_sums(folder)
    found = {path.name: path for path in folder.glob("*.safetensors")}
    names = sorted({*sums, *found})
    problems = []
    for name in names:
        if name not in found:
            problems.append(f"{folder / name}: no such file, but {SUMS} lists it")
        elif name not in sums:
            problems.append(f"{folder / name}: not listed in {SUMS}")
        elif problem := _sum_problem(found[name], sums[name]):
            problems.append(problem)
    return FolderCheck(folder, len(names), len(names) - len(problems), tuple(problems))


def _sum_problem(path: Path, wanted: str) -> str:
    try:
        content = read_bytes(path, BadInitialStates, _FIX, limit=_LARGEST_FILE)
    except BadInitialStates as error:
        return str(error)
    if hashlib.sha256(content).hexdigest() != wanted:
        return f"{path}: was changed: its SHA-256 differs"
    return ""


def read_sums(folder: Path) -> dict[str, str]:
    """The hashes that `SHA256SUMS` of a folder lists, by file name.

    Raises:
        BadInitialStates: when the list is missing or cannot be read.
    """
    path = folder / SUMS
    lines = read_text(path, BadInitialStates, _FIX, missing=_FIX).splitlines()
    sums = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise BadInitialStates(path, f"line {number} is not a hash and a file name", _FIX)
        sums[name] = digest
    return sums


def _read(path: Path) -> Bank:
    sums = read_sums(path.parent)
    if path.name not in sums:
        raise BadInitialStates(path, f"is not listed in {SUMS}", _FIX)
    content = read_bytes(path, BadInitialStates, _FIX, limit=_LARGEST_FILE)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sums[path.name]:
        raise BadInitialStates(path, f"was changed: its SHA-256 differs from that in {SUMS}", _FIX)
    try:
        tensors = load(content)
        bank = Bank(digest, tensors["base"], tensors["columns"], tensors["values"])
    except (SafetensorError, KeyError, TypeError) as broken:
        raise BadInitialStates(
            path, f"is not a bank of initial states ({broken})", _FIX
        ) from broken
    if problem := _problem(bank):
        raise BadInitialStates(path, f"is not a bank of initial states ({problem})", _FIX)
    return bank


def _problem(bank: Bank) -> str:
    """What is wrong with the arrays of a bank, "" if nothing is."""
    base, columns, values = bank.base, bank.columns, bank.values
    axes = {"base": (base, 1, "f"), "columns": (columns, 1, "i"), "values": (values, 2, "f")}
    for name, (array, ndim, kind) in axes.items():
        if array.ndim != ndim or array.dtype.kind != kind:
            return f"'{name}' is {array.ndim}-dimensional of {array.dtype}"
    if len(values) < 1 or values.shape[1] != len(columns):
        return f"'values' is {values.shape[0]} x {values.shape[1]}, 'columns' {len(columns)}"
    if len(columns) and not 0 <= columns.min() <= columns.max() < len(base):
        return f"'columns' must lie between 0 and {len(base) - 1}"
    if not (np.isfinite(base).all() and np.isfinite(values).all()):
        return "it has a value that is not finite"
    return ""


def _file_name(declared: Environment) -> str:
    return f"{declared.task.name}-{declared.embodiment.name}.safetensors"


def _is_frozen(path: Path, states: int) -> bool:
    if not path.exists() or not (path.parent / SUMS).exists():
        return False
    try:
        return len(_read(path)) >= states
    except BadInitialStates:
        return False


def _banks(
    jobs: Sequence[tuple[str, int]], workers: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The banks as they are made, each with the number of its job, here or in other processes."""
    if workers == 1 or len(jobs) < 2:
        yield from ((number, _make_bank(*job)) for number, job in enumerate(jobs))
        return
    yield from results(_make_bank, jobs, workers)


def _make_bank(env_id: str, states: int) -> dict[str, np.ndarray]:
    """The arrays of an environment's bank; see the module."""
    world = World(environment(env_id))
    with closing(world):
        scenes = np.stack([_scene(world, FIRST_EVALUATION_SEED + k) for k in range(states)])
    # By their bits, which also tell -0.0 from 0.0.
    columns = np.flatnonzero((scenes.view(np.int64) != scenes[0].view(np.int64)).any(axis=0))
    return {
        "base": scenes[0].copy(),
        "columns": columns.astype(np.int32),
        "values": np.ascontiguousarray(scenes[:, columns]),
    }


def _scene(world: World, seed: int) -> np.ndarray:
    world.reset(seed)
    return world.scene()


def _add_sum(path: Path) -> None:
    """Bring the list of hashes beside a bank up to date with it."""
    listed = path.parent / SUMS
    sums = {**(read_sums(path.parent) if listed.exists() else {}), path.name: sha256_file(path)}
    write_text(listed, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
