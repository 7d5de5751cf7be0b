"""What runs in a process that an `Executor` started: jobs as they come, and signs of life.

This module is all that a process imports before it says that it lives; a job brings its own
imports.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from enum import IntEnum, auto
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

from octo_bench.errors import OctoBenchError

HEARTBEAT = 1.0
"""Seconds between two signs of life."""

_SECONDS_TO_LEAVE = 1.5
"""What a process has, once its parent is gone, to remove what it has half written."""

_PR_SET_PDEATHSIG = 1


class Kind(IntEnum):
    """What a message says."""

    ALIVE = auto()
    BEGUN = auto()
    PROGRESS = auto()
    RESULT = auto()
    DONE = auto()
    RAISED = auto()


def note_progress() -> None:
    """Say that the job of this process is getting on; does nothing where there is no job.

    A job is ended that neither says so nor gives a result for as long as its limit.
    """
    if _voice is not None:
        _voice.progress()


def serve(connection: Connection, log: Path | None) -> None:
    """Do the jobs that come through `connection` until the other side or this process ends."""
    global _voice
    signal.signal(signal.SIGTERM, _leave)
    _wake_with_parent()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if log is not None:
        with log.open("a") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
    _voice = _Voice(connection)
    threading.Thread(target=_voice.live, daemon=True).start()
    try:
        with suppress(EOFError, OSError, _ParentGone):
            while True:
                _voice.say(*_answer(connection.recv_bytes()))
    finally:
        # At once: tearing down what the libraries hold can take long, or hang.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _ParentGone(Exception):
    """Nobody hears this process any more."""


class _Voice:
    """Sends messages, one at a time whatever the thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._said = 0.0

    def say(self, kind: Kind, content: Any = None) -> None:
        with self._lock:
            try:
                self._connection.send((kind, content))
            except OSError as error:
                raise _ParentGone from error

    def progress(self) -> None:
        if time.monotonic() - self._said >= HEARTBEAT:
            self._said = time.monotonic()
            self.say(Kind.PROGRESS)

    def live(self) -> None:
        with suppress(_ParentGone):
            while True:
                self.say(Kind.ALIVE)
                time.sleep(HEARTBEAT)


_voice: _Voice | None = None


def _answer(job: bytes) -> tuple[Kind, Any]:
    """Do a job, giving its results as they come; how it ended."""
    assert _voice is not None
    _voice.say(Kind.BEGUN)
    try:
        function, arguments = pickle.loads(job)  # imports what the job needs
        for result in function(*arguments):
            _voice.say(Kind.RESULT, result)
    except _ParentGone:
        raise
    except Exception as error:
        if _leaving:  # a library has made another exception of the one that ends this process
            raise SystemExit(1) from error
        return Kind.RAISED, _portable(error)
    return Kind.DONE, None


def _portable(error: Exception) -> Exception:
    """The user's mistake as it is, a bug with its traceback."""
    if isinstance(error, OctoBenchError):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return RuntimeError(f"in a worker process:\n{traceback.format_exc()}")


_leaving = False


def _leave(_number: int, _frame: FrameType | None) -> None:
    global _leaving
    _leaving = True
    raise SystemExit(1)  # so that `finally` clauses remove temporary files


def _wake_with_parent() -> None:
    """Go on when the parent ends: a process that is stopped could not notice it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def _leave_with_parent() -> None:
    """End this process when its parent is gone, however that ended."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    for _ in range(2):  # an exception raised inside a destructor is lost
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_LEAVE / 2)
    os._exit(1)
