"""Whether files can be written, writing them whole or not at all, and hashing them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octo_bench.errors import BadFile, OctoBenchError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOLD_OF = (
    *(f"errno = {code}" for code in _DISK_FULL),
    f"os error {errno.ENOSPC}",
    f"[Errno {errno.ENOSPC}]",
    os.strerror(errno.ENOSPC),
)
"""How HDF5, Rust, Arrow and PyTorch report a full disk inside their messages."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or what caused it, is the system's "no space left"."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _DISK_FULL:
            return True
        # `OSError` of HDF5 at writing, `RuntimeError` at closing, errors of their own of others.
        if any(told in str(chain) for told in _TOLD_OF):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left", however a library reports it, into a `BadFile` that names `path`."""
    try:
        yield
    except OctoBenchError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise BadFile(path, "no space left to write it", "free some disk space") from error
        raise


def require_writable(path: Path, *suffixes: str) -> None:
    """Refuse a path that no file could be written to, before the work that it is for.

    Args:
        path: of a file that may be there. Nothing is made, nor the folders above it.
        suffixes: those that it may have; any if none.

    Raises:
        BadFile: for another suffix, something that is not a file, or a folder that cannot be made
            or written to.
    """
    if suffixes and path.suffix not in suffixes:
        raise BadFile(path, f"does not end in {' or '.join(suffixes)}", "rename it")
    if path.exists() and not path.is_file():
        what = "is a folder" if path.is_dir() else "is not an ordinary file"
        raise BadFile(path, what, "name a file to write")
    if path.is_symlink() and not path.exists():
        raise BadFile(path, "is a link that leads to no file", "delete it, or name another file")
    _require_room(path.parent, path)


def require_new(path: Path) -> None:
    """Refuse to overwrite a file.

    Raises:
        BadFile: when there is something.
    """
    if os.path.lexists(path):
        raise BadFile(path, "exists already", "delete it, or choose another --out")


def require_unfinished(folder: Path, *names: str, state: str) -> None:
    """Refuse a folder that has what would be overwritten, unless that is to be continued.

    Args:
        folder: to write to.
        names: of the files that would be written.
        state: the file that is there while the work on them is not finished.

    Raises:
        BadFile: naming what is there.
    """
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not (folder / state).exists():
        problem = f"has a {there[0]} already"
        raise BadFile(folder, problem, "delete it, or choose another --out")


def require_writable_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made, or that no file could be written in.

    Raises:
        BadFile: for such a folder, or when there is something else.
    """
    if folder.exists() and not folder.is_dir():
        raise BadFile(folder, "is not a folder", "name a folder to write to")
    _require_room(folder, folder)


def require_own_page(page: Path, title: str) -> None:
    """Check that writing a page would not overwrite someone else's.

    Args:
        page: the page to write.
        title: what each page of its kind starts with.

    Raises:
        BadFile: when another page is there, or something that is not a file.
    """
    require_writable(page)
    if page.exists() and not page.read_text(encoding="utf-8", errors="replace").startswith(title):
        raise BadFile(page, "exists and is another page", "write to a folder of its own")


def _require_room(folder: Path, wanted: Path) -> None:
    """Try the nearest folder that is there: permissions alone do not tell, as of /proc for root."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    try:
        with explain_full_disk(wanted), tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        problem = f"nothing can be written in {there} ({error.strerror})"
        raise BadFile(wanted, problem, "name another place") from error


@contextmanager
def atomic_path(path: Path, named: Path | None = None) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; renamed to `path` on success, else removed.

    Args:
        path: of the file.
        named: what an error names, `path` if not given.

    Raises:
        BadFile: when the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explain_full_disk(named or path):
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(folder: Path, name: str = "*") -> None:
    """Remove what `atomic_path` leaves in a folder, of one file or all, when it is killed.

    Only for who knows that nobody else writes there.
    """
    for half_written in folder.glob(f".{name}.*.tmp"):
        half_written.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value as JSON with sorted keys; what JSON does not know is put as text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
