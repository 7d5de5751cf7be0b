"""The pool of processes: order, what is kept, what is stopped, and what a failure says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from octo_bench.errors import BadFile
from octo_bench.files import atomic_path
from octo_bench.processes.executor import ProcessLost
from octo_bench.studies.pool import Task, read_summary, run_tasks


def note(log: Path, text: str) -> dict[str, Any]:
    with log.open("a") as file:
        file.write(f"{text}\n")
    return {"threads": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()}


def meet(mine: Path, other: Path) -> dict[str, Any]:
    """Ends only when it runs beside another that does the same."""
    mine.touch()
    for _ in range(600):
        if other.exists():
            return {}
        time.sleep(0.05)
    raise TimeoutError


def refuse(path: Path) -> dict[str, Any]:
    raise BadFile(path, "is broken", "fix it")


def crash() -> dict[str, Any]:
    raise ZeroDivisionError("a bug")


def die() -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def die_once(mark: Path) -> dict[str, Any]:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def write_for_ever(path: Path, started: Path) -> dict[str, Any]:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        started.touch()
        time.sleep(600)
    return {}


def task(name: str, folder: Path, function: Any, needs: tuple[str, ...] = (), **more: Any) -> Task:
    defaults = {"cost": 1.0, "urgency": 0, "kind": ""}
    options = {key: more.pop(key, default) for key, default in defaults.items()}
    return Task(name, "phase", function, more, folder / f"{name}.json", needs=needs, **options)


def run(tasks: list[Task], workers: int, folder: Path) -> list[str]:
    done: list[str] = []
    run_tasks(
        tasks, workers, folder / "log", lambda task: None, lambda task, _: done.append(task.name)
    )
    return done


def test_urgent_then_long_tasks_come_first_and_none_before_what_it_needs(tmp_path: Path) -> None:
    order = tmp_path / "order"
    tasks = [
        task("short", tmp_path, note, log=order, text="short", cost=1),
        task("long", tmp_path, note, log=order, text="long", cost=5),
        task("last", tmp_path, note, ("short",), log=order, text="last", cost=9),
        task("urgent", tmp_path, note, log=order, text="urgent", urgency=1),
    ]
    assert run(tasks, 1, tmp_path) == order.read_text().split()
    assert order.read_text().split() == ["urgent", "long", "short", "last"]
    summary = json.loads((tmp_path / "last.json").read_text())
    assert summary["threads"] == "1"
    assert summary["seconds"] >= 0


def test_a_process_stays_with_a_kind_while_nothing_is_more_urgent(tmp_path: Path) -> None:
    def noted(name: str, kind: str, urgency: int = 0) -> Task:
        return task(
            name, tmp_path, note, log=tmp_path / "order", text=name, kind=kind, urgency=urgency
        )

    order = [("a1", "lift"), ("b1", "stack"), ("c1", "lift"), ("d1", "stack"), ("e1", "")]
    tasks = [noted(name, kind) for name, kind in order]
    urgent = noted("urgent", "stack", urgency=1)
    assert run([*tasks, urgent], 1, tmp_path) == ["urgent", "b1", "d1", "a1", "c1", "e1"]


def test_as_many_processes_as_workers_run_at_the_same_time(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    tasks = [task("1", tmp_path, meet, mine=a, other=b), task("2", tmp_path, meet, mine=b, other=a)]
    assert sorted(run(tasks, 2, tmp_path)) == ["1", "2"]


def test_the_users_mistake_in_a_task_keeps_its_message_and_exit_code(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"data\.hdf5: is broken; fix it") as failure:
        run([task("refuse", tmp_path, refuse, path=Path("data.hdf5"))], 1, tmp_path)
    assert failure.value.exit_code == 2
    assert not (tmp_path / "refuse.json").exists()


def test_a_bug_in_a_task_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        run([task("crash", tmp_path, crash)], 1, tmp_path)


def test_a_task_goes_on_when_its_process_dies(tmp_path: Path) -> None:
    tasks = [
        task("killed", tmp_path, die_once, mark=tmp_path / "mark", cost=2),
        task("other", tmp_path, note, log=tmp_path / "order", text="other"),
    ]
    started: list[Task] = []
    run_tasks(tasks, 1, tmp_path / "log", started.append, lambda *_: None)
    assert [each.name for each in started] == ["killed", "other"]
    assert read_summary(tmp_path / "killed.json") is not None


def test_a_process_that_dies_is_named_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProcessLost, match=r"'die': the process was killed by SIGKILL.*log"):
        run([task("die", tmp_path, die)], 1, tmp_path)


def test_a_failure_stops_the_others_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    work, started = tmp_path / "work", tmp_path / "started"
    work.mkdir()
    tasks = [
        task("forever", tmp_path, write_for_ever, path=work / "file", started=started, cost=2),
        task("refuse", tmp_path, _refuse_after, after=started),
    ]
    with pytest.raises(BadFile):
        run(tasks, 2, tmp_path)
    assert list(work.iterdir()) == []


def _refuse_after(after: Path) -> dict[str, Any]:
    while not after.exists():
        time.sleep(0.05)
    return refuse(after)


def test_a_hung_task_is_ended_and_begun_again(tmp_path: Path) -> None:
    """And so is one whose process dies idle, which ended the run with a BrokenPipeError."""
    started: list[Task] = []
    tasks = [
        task("hung", tmp_path, hang_once, mark=tmp_path / "mark", cost=2),
        task("first", tmp_path, note, log=tmp_path / "log", text="first", cost=3),
        task("second", tmp_path, note, ("hung",), log=tmp_path / "log", text="second"),
    ]
    run_tasks(tasks, 2, tmp_path / "out", started.append, _kill_idle, limit=3)
    assert [each.name for each in started] == ["first", "hung", "second"]
    assert read_summary(tmp_path / "second.json") is not None


def hang_once(mark: Path) -> dict[str, Any]:
    if not mark.exists():
        mark.touch()
        time.sleep(600)
    return {}


def _kill_idle(task: Task, summary: Any) -> None:
    """Kill the process that has just done "first"."""
    if task.name == "first":
        os.kill(summary["pid"], signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_their_parent_and_leave_nothing(
    tmp_path: Path, how: signal.Signals
) -> None:
    work, started = tmp_path / "work", tmp_path / "started"
    work.mkdir()
    program = (
        "import sys; from pathlib import Path; import test_pool as t\n"
        "folder = Path(sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    t.run([t.task('forever', folder, t.write_for_ever, path=folder / 'work' / 'file',"
        " started=folder / 'started')], 1, folder)\n"
    )
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py", tmp_path], env=environment)
    _wait_until(started.exists)
    parent.send_signal(how)
    parent.wait()
    _wait_until(lambda: list(work.iterdir()) == [])


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_broken_summary_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"seconds": 1')
    assert read_summary(tmp_path / "cut.json") is None
    assert read_summary(tmp_path / "none.json") is None
