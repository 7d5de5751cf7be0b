"""Where the declared things lie: in a clone beside the package, in an installed wheel inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CLONE = _PACKAGE.parent


def definitions_root() -> Path:
    """The folder with `embodiments/`, `tasks/` and `suites/`."""
    return _shipped("envs")


def policies_root() -> Path:
    """The folder with one folder per shipped policy."""
    return _shipped("policies")


def results_root() -> Path:
    """The folder with one folder per study: the clone's, or `results` in the working directory."""
    clone = _CLONE / "results"
    return clone if clone.is_dir() else Path.cwd() / "results"


def study_roots() -> tuple[Path, ...]:
    """The folders in which studies are looked for by name: one's own, then the shipped ones."""
    return tuple(dict.fromkeys((results_root(), _shipped("results"))))


def output_folder(study: Path) -> Path:
    """Where a study of this folder writes: there; in `results` where the folder is installed."""
    installed = _PACKAGE / "results"
    return results_root() / study.name if study.resolve().parent == installed else study


def demonstrators_table() -> Path:
    """How often each scripted expert succeeds: the table that `octo-bench demonstrators` writes."""
    return _shipped("results") / "demonstrators" / "demonstrators.csv"


def inference_table() -> Path:
    """The table of how fast published policies are."""
    return _shipped("results") / "reference" / "inference.csv"


def _shipped(name: str) -> Path:
    inside_wheel = _PACKAGE / name
    return inside_wheel if inside_wheel.is_dir() else _CLONE / name
