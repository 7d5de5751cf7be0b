"""Ctrl-C and SIGTERM: neither is lost, and neither breaks off what must not be broken off."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)
_SECONDS_TO_LEAVE_A_CALLBACK = 0.05


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C does is done, so that what is finished is kept."""


@dataclass
class Interrupts:
    """What came while `interruptible`: whether a SIGTERM."""

    terminated: bool = False


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Inside, SIGTERM raises `Terminated`, and an interrupt that is lost is raised again.

    Python drops an exception that a signal handler raises inside a destructor or inside a callback
    from C, where HDF5 spends much of a write. Only the main thread runs handlers of signals: in
    another one nothing changes.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def terminate(_number: int, _frame: FrameType | None) -> None:
        interrupts.terminated = True
        raise Terminated

    hook = sys.unraisablehook

    def raise_lost(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            _raise_later(signal.SIGTERM if lost.exc_type is Terminated else signal.SIGINT)
        else:
            hook(lost)

    before = signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = raise_lost
    try:
        yield interrupts
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect at the end of this: what is written is whole then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    # None: a handler that was not set from Python could not be put back.
    before = {
        number: handler
        for number in _ENDING
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in arrived[:1]:
            signal.raise_signal(number)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started inside never hear Ctrl-C: this one does, and stops them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise_later(number: signal.Signals) -> None:
    """Send this process a signal, once the callback that lost one is over."""
    # To the main thread: it wakes up from what it waits for.
    main = threading.main_thread().ident
    later = threading.Timer(_SECONDS_TO_LEAVE_A_CALLBACK, signal.pthread_kill, (main, number))
    later.daemon = True
    with suppress(RuntimeError):  # at the interpreter's end no thread can be started
        later.start()
