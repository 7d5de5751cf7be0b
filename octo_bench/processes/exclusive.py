"""Being the only one at work on a file or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from octo_bench.errors import BadFile


class InUse(BadFile):
    """A file or a folder that another process is writing."""


@contextmanager
def exclusive(path: Path, lock: Path | None = None) -> Iterator[None]:
    """Be the only one that writes `path`, as long as this lasts.

    The lock ends with the process, however that ends. The lock file goes with it, unless the
    process is killed; one that is left over locks nothing.

    Args:
        path: a file or a folder; the folder above it is made.
        lock: the lock file; a hidden sibling of `path` if not given.

    Raises:
        InUse: when another process is at it.
    """
    lock = lock or path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, blocking=False)
    try:
        held.acquire()
    except Timeout as error:
        raise InUse(
            path, "another process is writing it", "wait for it, or choose another --out"
        ) from error
    try:
        yield
    finally:
        # While it is held: who opened it meanwhile sees that it has no name any more.
        lock.unlink(missing_ok=True)
        held.release()
