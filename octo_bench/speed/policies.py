"""How fast policies are, and how much each inference option changes the actions.

What is timed is one call of the agent: all that one query takes but for the instruction, which is
embedded once an episode and measured by itself. All options answer the same observations from the
same noise in turns, so that a slow moment of the machine hits them all.

The simulation must not be imported here: a process that has drawn frames and then loads Triton,
which `torch.compile` does, crashes.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.sources import source_of
from octo_bench.checkpoints.config import STATISTICS, WEIGHTS, ModelConfig, find_policy, read_config
from octo_bench.checkpoints.folder import Policy, build_model, read_policy
from octo_bench.demonstrations.normalisation import POOLED, Affine, Statistics
from octo_bench.errors import BadFile, BadInference, UnknownName
from octo_bench.files import write_json
from octo_bench.machine import processor
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.progress import ProgressBar
from octo_bench.reading import read_json
from octo_bench.speed.asked_policy import AskedPolicy, Query
from octo_bench.speed.profiling import profile

EAGER = "eager"
NAIVE = "naive loop"
T5 = "t5"
FEW_STEPS = 5
BATCHES = (4, 16)
DRIFT_ROWS = 4
"""Observations that the options answer in turn."""
SLOW_EVERY = 5
"""Batches and the naive loop take part in every so many turns."""
_SEED = 0
_VERSIONS = ("octo-bench", "torch", "numpy", "transformers")


@dataclass(frozen=True)
class Option:
    """A set of inference options. `naive`: recompute the whole network at every denoising step."""

    name: str
    inference: Inference = DEFAULT
    batch: int = 1
    naive: bool = False

    @property
    def slow(self) -> bool:
        """Whether it takes so long that fewer calls have to do."""
        return self.naive or self.batch > 1


OPTIONS = (
    Option(EAGER),
    Option("compiled", Inference(compiled=True)),
    Option("half", Inference(precision="bfloat16")),
    Option(f"{FEW_STEPS} steps", Inference(diffusion_steps=FEW_STEPS)),
    Option(
        "combined",
        Inference(compiled=True, precision="bfloat16", diffusion_steps=FEW_STEPS),
    ),
    *(Option(f"batch {batch}", batch=batch) for batch in BATCHES),
    Option(NAIVE, naive=True),
)


@dataclass(frozen=True)
class OptionSpeed:
    """One policy with one set of inference options.

    `p50_ms` and `p95_ms` are of `calls` calls of the agent. `actions_per_second` is the chunk's
    length times the batch by the median: what could be executed at most. `speedup` compares it with
    the eager one of batch 1. `compile_s` is what the first call took, from an
    empty cache, if something is compiled. `drift_*` are the largest and the root mean square
    difference of the normalised actions from the eager ones of batch 1.
    """

    option: str
    batch: int
    calls: int
    p50_ms: float
    p95_ms: float
    actions_per_second: float
    speedup: float
    compile_s: float | None
    drift_max: float
    drift_rms: float


@dataclass(frozen=True)
class PolicySpeed:
    """One policy.

    `parameters` is by module; T5 is one of its own. `random_weights`: the folder has none.
    `instruction_ms` is what embedding one instruction takes. `noise_*` is by how much two answers
    of the eager network differ if only the noise does: the scale to read drift against; zero for
    heads that draw nothing. `profile` is by part of an eager call of batch 1, milliseconds.
    """

    policy: str
    architecture: str
    head: str
    random_weights: bool
    parameters: dict[str, int]
    parameters_total: int
    parameters_without_t5: int
    window: int
    chunk: int
    diffusion_steps: int | None
    instruction_ms: float
    noise_max: float
    noise_rms: float
    options: tuple[OptionSpeed, ...]
    profile: dict[str, float]


def measure_policies(
    policies: Sequence[str],
    *,
    only: Collection[str] = (),
    repeats: int = 30,
    threads: int = os.cpu_count() or 1,
    progress: bool = True,
) -> Iterator[PolicySpeed]:
    """Measure policies, one after the other; each is given as soon as it is measured.

    Args:
        policies: names under `policies/`, folders or Hub ids. A folder without weights is
            measured with random ones, which a line on stderr says.
        only: names of `OPTIONS`; all by default. Eager is always measured.
        repeats: turns.
        threads: of PyTorch.
        progress: show a progress bar.

    Raises:
        UnknownName: for an unknown policy or option.
        BadCheckpoint: for a policy folder that cannot be used.
        BadInference: for a policy that is not a network.
    """
    names = [option.name for option in OPTIONS]
    if unknown := sorted(set(only) - set(names)):
        raise UnknownName("inference option", unknown[0], names)
    chosen = [each for each in OPTIONS if not only or each.name in only or each.name == EAGER]
    folders = [_find(policy) for policy in policies]
    with _threads(threads), _empty_compiler_cache():
        for name, folder in zip(policies, folders, strict=True):
            yield _measure(name, _read(name, folder), chosen, repeats, progress)


def _find(policy: str) -> Path:
    if not source_of(policy).trainable:
        raise BadInference(f"{policy} is not a network; name a policy folder to measure")
    folder = find_policy(policy)
    read_config(folder)
    return folder


def _read(name: str, folder: Path) -> Policy:
    """The policy; with random weights, and nothing normalised, if its folder has none."""
    if not _without_weights(folder):
        return read_policy(folder)
    print(f"{name}: its folder has no weights; measured with random ones", file=sys.stderr)
    config = read_config(folder)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(_SEED)
        model = build_model(config.model).eval()
    proprio = 1 + max(config.model.proprio_entries, default=-1)
    statistics = Statistics(
        "bounds", _identity(proprio), {POOLED: _identity(config.model.action_size)}
    )
    return Policy(folder, config, statistics, model)


def _without_weights(folder: Path) -> bool:
    return not (folder / WEIGHTS).exists() and not (folder / STATISTICS).exists()


def _identity(size: int) -> Affine:
    return Affine(np.zeros(size, np.float32), np.ones(size, np.float32))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _empty_compiler_cache() -> Iterator[None]:
    """What was compiled before does not count: everyone's first time takes as long."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before


def _applicable(options: Sequence[Option], model: ModelConfig) -> Iterator[Option]:
    """The options that a network has: some need diffusion, in more steps than the few."""
    diffusion = model.head == "diffusion"
    fewer = diffusion and model.diffusion.steps > FEW_STEPS
    for option in options:
        without = replace(option.inference, diffusion_steps=None)
        if option.naive and not (diffusion and isinstance(model, Octo15Config)):
            continue
        if option.inference == without or fewer:
            yield option
        elif without != DEFAULT:
            yield replace(option, inference=without)


@dataclass
class _Asked:
    """One option, and what came of it."""

    option: Option
    policy: AskedPolicy
    first_ms: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    answers: list[tuple[slice, np.ndarray]] = field(default_factory=list)

    def first(self, query: Query) -> None:
        """The first call, in which things are compiled and memory is claimed."""
        if not self.option.naive:  # too slow for that; nothing of it is new either
            self.first_ms, _ = self.policy.ask(query.rows(range(self.option.batch)))

    def turn(self, query: Query, number: int) -> None:
        """Take part in a turn: one call, with the next of the rows, or as many as a batch has."""
        start = number % DRIFT_ROWS if self.option.batch == 1 else 0
        rows = range(start, start + self.option.batch)
        milliseconds, actions = self.policy.ask(query.rows(rows))
        self.milliseconds.append(milliseconds)
        self.answers.append((slice(rows.start, rows.stop), actions))

    def speed(self, eager_p50: float, reference: np.ndarray) -> OptionSpeed:
        """The row of the table; `reference` (DRIFT_ROWS, T, A) is what the eager one answers."""
        p50 = float(np.median(self.milliseconds))
        compared = [(actions[:DRIFT_ROWS], reference[rows]) for rows, actions in self.answers]
        drift_max, drift_rms = _differences(compared)
        batch = self.option.batch
        return OptionSpeed(
            option=self.option.name,
            batch=batch,
            calls=len(self.milliseconds),
            p50_ms=p50,
            p95_ms=float(np.percentile(self.milliseconds, 95)),
            actions_per_second=1e3 * batch * reference.shape[1] / p50,
            speedup=batch * eager_p50 / p50,
            compile_s=self.first_ms / 1e3 if self.option.inference.compiled else None,
            drift_max=drift_max,
            drift_rms=drift_rms,
        )


def _measure(
    name: str, policy: Policy, options: Sequence[Option], repeats: int, progress: bool
) -> PolicySpeed:
    torch.compiler.reset()
    config = policy.config.model
    asked = [
        _Asked(each, AskedPolicy(policy, each.inference, naive=each.naive))
        for each in _applicable(options, config)
    ]
    eager = asked[0].policy
    embedded = [eager.embed_instruction() for _ in range(repeats)]
    for each in asked:
        each.policy.remember_instruction(embedded[0][1])
    rows = max(DRIFT_ROWS, *BATCHES)
    query = Query.random(policy, eager.noise_shape, rows, _SEED)
    _take_turns(name, asked, query, repeats, progress)
    reference = _answers(eager, query)
    noise_max, noise_rms = _differences(
        [(_answers(eager, query.with_other_noise(_SEED + 1)), reference)]
    )
    eager_p50 = float(np.median(asked[0].milliseconds))
    parameters = count_parameters(policy.model)
    return PolicySpeed(
        policy=name,
        architecture=policy.config.architecture,
        head=config.head,
        random_weights=_without_weights(policy.folder),
        parameters=parameters,
        parameters_total=sum(parameters.values()),
        parameters_without_t5=sum(parameters.values()) - parameters[T5],
        window=config.window,
        chunk=config.chunk,
        diffusion_steps=config.diffusion.steps if config.head == "diffusion" else None,
        instruction_ms=float(np.median([milliseconds for milliseconds, _ in embedded])),
        noise_max=noise_max,
        noise_rms=noise_rms,
        options=tuple(each.speed(eager_p50, reference) for each in asked),
        profile=profile(eager, query.rows([0]), repeats),
    )


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters by module, frozen ones included; T5's by themselves."""
    counts: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        counts[T5 if name.startswith("language.t5.") else name.split(".")[0]] += parameter.numel()
    return dict(counts)


def _take_turns(
    name: str, asked: Sequence[_Asked], query: Query, repeats: int, progress: bool
) -> None:
    turns = [
        (number, each)
        for number in range(repeats)
        for each in asked
        if not (each.option.slow and number % SLOW_EVERY)
    ]
    with ProgressBar(
        total=len(asked) + len(turns), desc=f"speed {name}", disable=not progress
    ) as bar:
        for each in asked:
            bar.set_postfix_str(f"{each.option.name}, first call")
            each.first(query)
            bar.update()
        for number, each in turns:
            bar.set_postfix_str(each.option.name)
            each.turn(query, number)
            bar.update()


def _answers(policy: AskedPolicy, query: Query) -> np.ndarray:
    """Normalised actions (DRIFT_ROWS, T, A), every row by itself."""
    return np.concatenate([policy.ask(query.rows([row]))[1] for row in range(DRIFT_ROWS)])


def _differences(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """The largest and the root mean square difference over pairs of equal shape."""
    differences = np.concatenate([(a - b).ravel() for a, b in pairs])
    return float(np.abs(differences).max()), float(np.sqrt(np.square(differences).mean()))


def machine(threads: int) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def read_policies(path: Path, machine: Mapping[str, object]) -> list[PolicySpeed]:
    """What `write_policies` wrote; nothing where no file is.

    Raises:
        BadFile: when the file is something else, or was not measured on the same.
    """
    if not path.exists():
        return []
    fix = "write to another file"
    written = read_json(path, BadFile, fix)
    try:
        speeds = [
            PolicySpeed(
                **{**row, "options": tuple(OptionSpeed(**option) for option in row["options"])}
            )
            for row in written["policies"]
        ]
        same = written["machine"] == machine
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is not what `octo-bench speed` writes ({error})"
        raise BadFile(path, problem, fix) from error
    if not same:
        problem = "was measured on another machine, or with other versions"
        raise BadFile(path, problem, "delete it, or write to another file")
    return speeds


def write_policies(speeds: Sequence[PolicySpeed], machine: Mapping[str, object], out: Path) -> None:
    """Write what was measured, and on what, as JSON.

    Raises:
        BadFile: when the disk is full.
    """
    write_json(out, {"machine": machine, "policies": [asdict(speed) for speed in speeds]})
