"""Processes: deaths and hangs are told, interrupts are not lost, nothing outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from octo_bench.errors import BadFile
from octo_bench.processes import executor
from octo_bench.processes.exclusive import InUse, exclusive
from octo_bench.processes.executor import Death, Done, Executor, ProcessLost, Result, once
from octo_bench.processes.interrupts import Terminated, interruptible, uninterrupted
from octo_bench.processes.jobs import ATTEMPTS, in_order, results, stream
from octo_bench.processes.worker import note_progress


def square(number: int) -> int:
    return number**2


def who(_: int = 0) -> int:
    return os.getpid()


def threads() -> str:
    return os.environ["OMP_NUM_THREADS"]


def hide_the_end(marker: Path) -> str:
    """Gets a SIGTERM at its first call, and raises what ctypes makes of it inside a conversion."""
    if not marker.exists():
        marker.touch()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except SystemExit as ended:
            raise ValueError("argument 1: SystemExit: 1") from ended
    return "done"


def die_until(folder: Path, times: int) -> str:
    """Gets a SIGKILL at each of its first `times` calls."""
    deaths = len(list(folder.iterdir()))
    if deaths < times:
        (folder / f"{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def stop_once(mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return "done"


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def work_slowly(seconds: float) -> Iterator[str]:
    for _ in range(round(10 * seconds)):
        time.sleep(0.1)
        note_progress()
    yield "done"


def refuse(path: Path) -> None:
    raise BadFile(path, "is broken", "fix it")


def half_a_megabyte_then_stop(mark: Path) -> Iterator[bytes]:
    if not mark.exists():
        mark.touch()
        # Stops while its main thread is in the middle of sending.
        subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -STOP {os.getpid()}"])
        while True:
            yield bytes(50_000_000)
    yield b"done"


def wait_until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_results_come_with_the_numbers_of_their_jobs_and_in_order_where_asked() -> None:
    assert dict(results(square, ((n,) for n in range(7)), 2)) == {n: n**2 for n in range(7)}
    squares = in_order(square, ((n,) for n in count()), 2)
    assert [next(squares) for _ in range(7)] == [n**2 for n in range(7)]
    squares.close()


def test_processes_have_one_thread_are_kept_and_are_new_where_asked() -> None:
    with Executor[None](1) as process:
        assert process.call(threads) == "1"
        assert process.call(who) == process.call(who) != os.getpid()
    pids = [pid for _, pid in results(who, [(0,), (1,)], 1, fresh=True)]
    assert len(set(pids)) == 2


@pytest.mark.parametrize("times", [ATTEMPTS - 1, ATTEMPTS])
def test_a_job_is_begun_again_when_its_process_is_killed(tmp_path: Path, times: int) -> None:
    said = results(die_until, [(tmp_path, times)], 2)
    if times < ATTEMPTS:
        assert list(said) == [(0, "done")]
    else:
        with pytest.raises(ProcessLost, match="was killed by SIGKILL, repeatedly"):
            list(said)
    assert len(list(tmp_path.iterdir())) == times


def test_a_library_that_hides_the_end_of_a_process_does_not_pass_for_a_bug(tmp_path: Path) -> None:
    assert list(results(hide_the_end, [(tmp_path / "marker",)], 1)) == [(0, "done")]


def test_an_idle_process_that_dies_costs_nothing() -> None:
    with Executor[int](2) as pool:
        for round_ in range(2):
            pool.start(round_, once, who)
            pids = []
            while pool.running:
                pids += [news.value for _, news in pool.wait() if isinstance(news, Result)]
            os.kill(pids[0], signal.SIGKILL)
        pool.start(2, once, square, 3)
        heard = []
        while pool.running:
            heard += pool.wait()
    assert heard == [(2, Result(9)), (2, Done())]


def test_a_stopped_process_is_ended_and_its_job_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "STOPPED", 1.5)
    assert list(results(stop_once, [(tmp_path / "mark",)], 2)) == [(0, "done")]


def test_a_process_that_stops_in_the_middle_of_a_message_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "STOPPED", 1.5)
    job = tmp_path / "mark"
    jobs = deque([job])
    last = b""
    for _, news in stream(half_a_megabyte_then_stop, jobs, 1):
        if isinstance(news, Death):
            jobs.append(job)
        else:
            last = news
    assert last == b"done"


def test_a_job_without_progress_is_ended_and_one_that_gets_on_is_not() -> None:
    ((_, news),) = stream(work_slowly, deque([8.0]), 1, limit=5)
    assert news == "done"
    with Executor[int](1, limit=5) as pool:
        pool.start(0, once, sleep, 60)
        pool_news = []
        while pool.running:
            pool_news += pool.wait()
    assert pool_news == [(0, Death("the process made no progress for 5 s"))]


def test_the_users_mistake_and_a_bug_are_raised_here(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="is broken; fix it"):
        list(results(refuse, [(tmp_path,)], 1))
    with pytest.raises(RuntimeError, match="TypeError"):
        list(results(square, [("two",)], 1))


PROGRAM = """
import sys, time
from pathlib import Path
import test_processes as t
from octo_bench.processes.executor import Executor, once
from octo_bench.processes.interrupts import interruptible

if __name__ == "__main__":
    with interruptible(), Executor(2) as pool:
        for number in range(2):
            pool.start(number, once, t.note_and_sleep, Path(sys.argv[1]), number)
        while pool.running:
            pool.wait()
"""


def note_and_sleep(folder: Path, number: int) -> None:
    (folder / f"pid{number}").write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.getcwd()}"}
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", tmp_path],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    files = [tmp_path / f"pid{number}" for number in range(2)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    pids = [int(file.read_text()) for file in files]
    os.kill(pids[0], signal.SIGSTOP)  # one that could not notice by itself
    parent.send_signal(how)
    parent.wait(10)
    wait_until(lambda: not any(map(alive, pids)), seconds=3)


def test_an_interrupt_takes_effect_after_the_write() -> None:
    with interruptible():
        for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
            written = False
            with pytest.raises(kind), uninterrupted():
                signal.raise_signal(number)
                written = True
            assert written


class Lossy:
    """Python drops what is raised while it is destroyed."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_a_destructor_loses_is_raised_again() -> None:
    with interruptible(), pytest.raises(KeyboardInterrupt):
        Lossy()
        time.sleep(60)


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    again = pytest.raises(InUse, match="file: another process is writing it")
    with exclusive(path), again, exclusive(path):
        pass
    with exclusive(path):
        pass
    assert not list(tmp_path.iterdir())
