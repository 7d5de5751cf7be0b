"""What results depend on beside the declaration: versions, and the code that can change them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from octo_bench.evaluation import provenance

# Parts of octo_bench whose code can change a demonstration, a training, an episode.
COLLECTING = ("definitions.py", "simulation", "experts", "demonstrations")
# A training starts from a policy that is read and ends with one that is written; converting
# released checkpoints is left out, since what comes of it is a policy with a hash of its own.
TRAINING = (*COLLECTING, "models", "training", "checkpoints/folder.py", "checkpoints/text.py")
MEASURING = (*TRAINING, "agents", "evaluation/episodes.py", "evaluation/goals.py")


def versions(sources: tuple[str, ...] = MEASURING) -> dict[str, str]:
    """The versions of libraries, and the hex SHA-256 of some of our code.

    Args:
        sources: files and folders of the package: `COLLECTING`, `TRAINING` or `MEASURING`, each
            with what the one before has.
    """
    return {**provenance.versions(), "octo_bench_sources": _sources_sha256(sources)}


@cache
def _sources_sha256(sources: tuple[str, ...]) -> str:
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in sources:
        source = package / name
        for file in [source] if source.is_file() else sorted(source.rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()
