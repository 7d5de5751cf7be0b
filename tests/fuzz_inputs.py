"""Mutated inputs to every command: no traceback, no hang, no more memory than there is.

    python tests/fuzz_inputs.py --cases 5000 --seed 1 --log cases.jsonl

A case is a sound file of some type with a random change in it (bytes, keys, numbers, arrays, or
something else in its place), given to a command that reads it, in a process that goes on to the
next case. It passes if the command ends with a documented exit code, within its time, and an exit
code of 2 comes with one line that starts with `error:`. A command that goes on to real work
(simulating, training) has accepted its input, and is stopped there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from helpers.mutations import OF_A_TYPE, change_bytes, command_line, something_else
from helpers.sound_files import make_files

SECONDS = 60.0
"""That a case may take, on a machine that has other work."""
GIGABYTES = 6.0
"""Of address space that a case may take beyond what its process has."""
EXITS = (0, 1, 2, 3, 4)


class Accepted(BaseException):
    """A command has accepted its input and begins real work."""


@dataclass(frozen=True)
class Case:
    """A command and the file that is changed before it reads it, both relative to the folder."""

    kind: str
    file: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


CASES = (
    Case("demonstrations", "lift.hdf5", ("finetune", "{policy}", "--demonstrations", "{file}",
         "--demos", "2", "--out", "{out}/policy")),
    Case("demonstrations", "lift.hdf5", ("verify", "{file}")),
    Case("demonstrations", "lift.hdf5", ("collect", "Lift-Panda", "--demos", "5", "--seed", "5",
         "--out", "{file}")),
    Case("policy config", "policy/config.json", ("evaluate", "{policy}", "Lift-Panda",
         "--episodes", "1", "--out", "{out}/e.parquet")),
    Case("policy statistics", "policy/statistics.json", ("evaluate", "{policy}", "Lift-Panda",
         "--episodes", "1", "--out", "{out}/e.parquet")),
    Case("policy weights", "policy/model.safetensors", ("evaluate", "{policy}", "Lift-Panda",
         "--episodes", "1", "--out", "{out}/e.parquet")),
    Case("policy config", "policy/config.json", ("finetune", "{policy}", "--demonstrations",
         "{root}/lift.hdf5", "--demos", "2", "--out", "{out}/policy")),
    Case("policy config", "policy/config.json", ("speed", "{policy}", "--only", "half")),
    Case("policy weights", "policy/model.safetensors", ("watch", "{policy}", "Lift-Panda",
         "--out", "{out}/film.mp4")),
    Case("records", "a.parquet", ("compare", "{file}", "{root}/b.parquet")),
    Case("records", "b.parquet", ("compare", "{root}/a.parquet", "{file}", "--json")),
    Case("records", "a.parquet", ("regress", "random", "--baseline", "{file}", "--budget", "5")),
    Case("records", "a.parquet", ("bisect", "random", "random", "--baseline", "{file}")),
    Case("records", "a.parquet", ("replay", "{file}", "3", "--out", "{out}/film.mp4")),
    Case("golden answers", "g.golden.npz", ("regress", "{policy}", "--baseline",
         "{root}/g.parquet", "--golden-only")),
    Case("records", "study/episodes.parquet", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("study result", "study/study_result.json", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("reference table", "study/reference.csv", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("study", "study/study.toml", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("study", "study/study.toml", ("reproduce", "{file}", "--out", "{out}/run",
         "--workers", "1")),
    Case("study", "study/study.toml", ("finetune", "{policy}", "--settings", "{file}",
         "--demonstrations", "{root}/lift.hdf5", "--demos", "2", "--out", "{out}/policy")),
    Case("recipe", "recipe.toml", ("pretrain", "{file}", "--out", "{out}/policy")),
    Case("task", "envs/tasks/MyLift.toml", ("envs", "--json"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("task", "envs/tasks/MyLift.toml", ("collect", "MyLift-Panda", "--demos", "1",
         "--out", "{out}/x.hdf5"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("task", "envs/tasks/MyLift.toml", ("evaluate", "random", "Lift-Panda", "--episodes",
         "1", "--out", "{out}/e.parquet"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("embodiment", "envs/embodiments/MyPanda.toml", ("collect", "Lift-MyPanda", "--demos",
         "1", "--out", "{out}/x.hdf5"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("suite", "envs/suites/mine.toml", ("evaluate", "random", "Lift-Panda", "--suite", "mine",
         "--episodes", "1", "--out", "{out}/e.parquet"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("initial states", "envs/initial_states/SHA256SUMS", ("verify",),
         (("OCTO_BENCH_ENVS", "envs"),)),
    Case("initial states", "envs/initial_states/Lift-MyPanda.safetensors", ("verify", "--json"),
         (("OCTO_BENCH_ENVS", "envs"),)),
    Case("initial states", "envs/initial_states/Lift-MyPanda.safetensors", ("evaluate", "random",
         "Lift-MyPanda", "--episodes", "1", "--out", "{out}/e.parquet"),
         (("OCTO_BENCH_ENVS", "envs"),)),
    Case("table of experts", "experts.csv", ("demonstrators", "--env", "Lift-Panda", "--seeds",
         "1", "--out", "{file}")),
    Case("speeds", "speed.json", ("speed", "{policy}", "--only", "half", "--out", "{file}")),
    Case("released config", "released/config.json", ("convert", "{root}/released", "{out}/c")),
    Case("released statistics", "released/dataset_statistics.json",
         ("convert", "{root}/released", "{out}/c")),
    Case("released batch", "released/example_batch.msgpack",
         ("convert", "{root}/released", "{out}/c")),
    Case("released parameters", "released/300000/default/checkpoint",
         ("convert", "{root}/released", "{out}/c")),
    Case("command line", "", ()),
)  # fmt: skip


def _forbid_work() -> None:
    """Let every command stop where it begins to simulate, train, or start processes."""
    from octo_bench.calibration import calibrate
    from octo_bench.demonstrations import collecting, playback, survey
    from octo_bench.processes import executor
    from octo_bench.simulation import world
    from octo_bench.speed import policies
    from octo_bench.studies import scheduler
    from octo_bench.training import finetune, loop, pretrain

    def accepted(*_: object, **__: object) -> None:
        raise Accepted

    executor.Executor.start = accepted
    world.World.__init__ = accepted
    loop.train = finetune.train = pretrain.train = accepted
    pretrain.initial_model = accepted
    scheduler.run_cells = accepted
    calibrate.calibrate = accepted
    collecting.attempt = survey.survey_one = playback.World = accepted
    policies.measure_policies = accepted


def _run(arguments: list[str]) -> tuple[str, int, str]:
    """What becomes of a command: `accepted` or `exit`, its exit code, what it says on stderr."""
    from octo_bench.cli import run
    from octo_bench.definitions import environments, suites
    from octo_bench.simulation import initial_states

    environments.environments.cache_clear()
    environments._readable.cache_clear()
    initial_states.find_bank.cache_clear()
    suites.suites.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return "exit", run(arguments), err.getvalue()
    except Accepted:
        return "accepted", 0, err.getvalue()
    except SystemExit as ended:
        return "exit", int(ended.code or 0), err.getvalue()


def _serve(connection: Connection, of_parent: Connection, root: Path) -> None:
    """Do cases until the parent has closed the connection, or is gone."""
    of_parent.close()
    os.environ["HF_HUB_OFFLINE"] = "1"
    _forbid_work()
    os.chdir(root)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + int(GIGABYTES * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            seed, number = connection.recv()
        except EOFError:
            return
        connection.send(_one(seed, number, root))


def _one(seed: int, number: int, root: Path) -> dict[str, Any]:
    """Make and run case `number`."""
    rng = random.Random(f"{seed} {number}")
    case = CASES[number % len(CASES)]
    work = root / "case"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(root / "sound", work)
    (work / "out").mkdir()
    change = "arguments"
    if case.file:
        path = work / case.file
        mutation = rng.choice((*OF_A_TYPE.get(path.suffix, ()), change_bytes, something_else))
        change = mutation.__name__
        try:
            mutation(path, rng)
        except (ValueError, LookupError, TypeError, KeyError, RuntimeError, OSError):
            change_bytes(path, rng)  # what that change cannot be made to
    arguments = (
        [
            each.format(file=work / case.file, root=work, out=work / "out", policy=work / "policy")
            for each in case.command
        ]
        if case.file
        else command_line(rng, work)
    )
    os.environ.pop("OCTO_BENCH_ENVS", None)
    for name, value in case.env:
        os.environ[name] = str(work / value)
    start = time.monotonic()
    ended, code, said = _run(arguments)
    return {
        "number": number,
        "kind": case.kind,
        "command": arguments[0] if arguments else "",
        "change": change,
        "ended": ended,
        "code": code,
        "said": said[-3000:],
        "seconds": round(time.monotonic() - start, 2),
        "arguments": [each[:200] for each in arguments],
    }


def problem_of(result: dict[str, Any]) -> str:
    """What is wrong with what became of a case, "" if nothing is."""
    if result["ended"] == "accepted":
        return ""
    if result["ended"] != "exit":
        return result["ended"]
    lines = [line for line in result["said"].splitlines() if line.strip()]
    if "Traceback" in result["said"]:
        return f"traceback: {lines[-1][:300]}"
    if result["code"] not in EXITS:
        return f"exit code {result['code']}"
    if result["code"] == 2 and sum(line.startswith("error: ") for line in lines) != 1:
        return f"{len(lines)} lines on stderr"
    return ""


class _Worker:
    """A process that does one case after the other, and is replaced if it dies or hangs."""

    def __init__(self, root: Path) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._connection, root), daemon=True
        )
        self._process.start()
        theirs.close()

    def do(self, seed: int, number: int) -> dict[str, Any]:
        """What became of a case."""
        case = CASES[number % len(CASES)]
        failed = {
            "number": number,
            "kind": case.kind,
            "command": (case.command or ("?",))[0],
            "code": -1,
            "said": "",
            "change": "?",
        }
        self._connection.send((seed, number))
        if not self._connection.poll(SECONDS):
            self.close()
            return {**failed, "ended": f"hung for {SECONDS:g} s", "seconds": SECONDS}
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            self.close()
            return {**failed, "ended": f"died with {self._process.exitcode}", "seconds": 0}

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._connection.close()

    @property
    def is_alive(self) -> bool:
        """Whether it can do another case."""
        return self._process.is_alive() and not self._connection.closed


def fuzz(numbers: range, seed: int) -> Iterator[dict[str, Any]]:
    """Do some cases, one after the other; what became of each."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        make_files(folder / "sound")
        worker: _Worker | None = None
        for number in numbers:
            if worker is None or not worker.is_alive:
                worker = _Worker(folder)
            yield worker.do(seed, number)
        if worker is not None and worker.is_alive:
            worker.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="write every case there, a JSON line each")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.cases} cases", flush=True)
    done: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(options.log.open("w")) if options.log else None
        for result in fuzz(range(options.first, options.first + options.cases), options.seed):
            cell = result["command"], result["kind"]
            done[cell] += 1
            problem = problem_of(result)
            if log is not None:
                log.write(json.dumps({**result, "problem": problem}) + "\n")
                log.flush()
            if problem:
                failed[cell] += 1
                what = f"{' '.join(cell)}, {result['change']}"
                print(f"case {result['number']}: {what}: {problem}", flush=True)
    for (command, kind), count in sorted(done.items()):
        print(f"{command:14} {kind:20} {count:5} cases, {failed[command, kind]} failed")
    print(f"{sum(done.values())} cases, {sum(failed.values())} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
