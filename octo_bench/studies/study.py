"""Reading `study.toml`: what a study measures, declared once and checked strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from octo_bench.declarations import from_table, read_declaration
from octo_bench.definitions import environment
from octo_bench.errors import BadStudy, UnknownName
from octo_bench.paths import results_root
from octo_bench.training.finetune import FinetuneSettings
from octo_bench.training.settings import Optimisation

FILE = "study.toml"


@dataclass(frozen=True)
class PolicyEntry:
    """A policy under study, and how its fine-tuning starts.

    Attributes:
        policy: what is loaded: a name under `policies/`, a folder or a Hub id.
        head: its action head, as records and tables call it.
        from_scratch: fine-tuning starts from random weights instead of the pre-trained ones, and
            so nothing is measured without demonstrations.
    """

    policy: str
    head: Literal["diffusion", "categorical"]
    from_scratch: bool = False

    @property
    def name(self) -> str:
        """What records and tables call it."""
        return f"{self.policy} from scratch" if self.from_scratch else self.policy


@dataclass(frozen=True)
class Target:
    """An environment to measure in, after how many demonstrations.

    Attributes:
        reference: a CSV with the rates to compare with, see `read_reference`; in the file it is
            relative to the file's folder.
    """

    env: str
    demos: tuple[int, ...]
    reference: Path | None = None


@dataclass(frozen=True)
class DemonstrationPool:
    """What demonstrations are drawn from: `count` successes, tried from seed `first_seed` on."""

    count: int
    first_seed: int


@dataclass(frozen=True)
class Study:
    """One declared comparison; its results depend on this and on nothing else.

    Attributes:
        file: where it was read from.
        seed: of the evaluation's episodes.
        episodes: per cell.
        draws: which subsets of the demonstrations are used, see `read_demonstrations`.
        train_seeds: seeds of the fine-tunings.
        beside: other studies, by name, whose rows stand beside this one's in its table.
        finetune: fields of `FinetuneSettings`, except that the optimiser's steps are by number
            of demonstrations, under `steps`; read it with `finetune_settings`.
    """

    file: Path
    title: str
    seed: int
    episodes: int
    policies: tuple[PolicyEntry, ...]
    targets: tuple[Target, ...]
    demonstrations: DemonstrationPool
    draws: tuple[int, ...] = (0,)
    train_seeds: tuple[int, ...] = (0,)
    beside: tuple[str, ...] = ()
    finetune: Mapping[str, Any] = field(default_factory=dict)


def find_study(study: str) -> Path:
    """The `study.toml` that `study` means: a file, its folder, or a name under `results/`.

    Raises:
        UnknownName: when nothing is there; the nearest names are offered.
    """
    for candidate in (Path(study), Path(study) / FILE, results_root() / study / FILE):
        if candidate.is_file():
            return candidate
    known = [found.parent.name for found in results_root().glob(f"*/{FILE}")]
    raise UnknownName("study", study, known)


def read_study(path: Path) -> Study:
    """Read and check a study declaration.

    Raises:
        BadStudy: for a file that is no TOML, or a key that is unknown, missing or ill-typed.
        UnknownName: for an environment that does not exist.
    """
    study = read_declaration(path, Study, BadStudy, file=path)
    for problem in _problems(study):
        raise BadStudy(path, problem, "correct it")
    targets = tuple(
        replace(
            target,
            env=environment(target.env).id,
            reference=target.reference and path.parent / target.reference,
        )
        for target in study.targets
    )
    for target in targets:
        if target.reference is not None and not target.reference.is_file():
            raise BadStudy(path, f"there is no {target.reference}", "correct 'targets.reference'")
    for demos in {demos for target in targets for demos in target.demos if demos}:
        finetune_settings(study, demos, seed=0)
    return replace(study, targets=targets)


def finetune_settings(study: Study, demos: int, seed: int) -> FinetuneSettings:
    """The settings to fine-tune on `demos` demonstrations with.

    Raises:
        BadStudy: for a setting that does not exist, or steps that are not declared for `demos`.
    """
    path, table = study.file, dict(study.finetune)
    steps = table.pop("steps", None)
    if not isinstance(steps, Mapping) or not isinstance(steps.get(str(demos)), int):
        raise BadStudy(path, f"the key 'finetune.steps.{demos}' is missing", "add it")
    optimisation = table.pop("optimisation", {})
    if not isinstance(optimisation, Mapping):
        raise BadStudy(path, "'finetune.optimisation' must be a table", "correct it")
    if "steps" in optimisation:
        raise BadStudy(path, "unknown key 'finetune.optimisation.steps'", "use [finetune.steps]")
    default = asdict(FinetuneSettings().optimisation)
    try:
        complete = from_table(
            {**default, **optimisation, "steps": steps[str(demos)]},
            Optimisation,
            BadStudy,
            path,
            where="finetune.optimisation.",
        )
        given = {"optimisation": complete, "seed": seed}
        return from_table(table, FinetuneSettings, BadStudy, path, where="finetune.", given=given)
    except ValueError as error:
        raise BadStudy(path, f"[finetune] {error}", "correct it") from error


def _problems(study: Study) -> Iterator[str]:
    """What types alone do not say."""
    if study.seed < 0:
        yield "'seed' must not be negative"
    if study.episodes < 1:
        yield "'episodes' must be at least 1"
    for key in ("policies", "targets", "draws", "train_seeds"):
        if not getattr(study, key):
            yield f"'{key}' must not be empty"
    for key in ("draws", "train_seeds", "policies", "targets"):
        if len(set(getattr(study, key))) < len(getattr(study, key)):
            yield f"'{key}' has an entry twice"
    for i, target in enumerate(study.targets):
        if not target.demos or min(target.demos) < 0 or len(set(target.demos)) < len(target.demos):
            yield f"'targets[{i}].demos' must be different counts of demonstrations"
        elif max(target.demos) > study.demonstrations.count:
            yield f"'demonstrations.count' is less than 'targets[{i}].demos' asks for"
