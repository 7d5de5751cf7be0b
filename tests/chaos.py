"""Kills, stops and interrupts at random moments: what comes out is what an undisturbed run gives.

    python tests/chaos.py --trials 200 --seed 1

A trial starts a command with two workers, sends signals to it, to one of its workers or to all of
its processes, and starts it again until it ends well. Then its files must be those of a run that
was left alone, no process may be left over, and no run may have taken longer than its limit. A
line is printed for each trial, and the counts at the end; the exit code is 1 if any trial failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS_TO_LEAVE = 3.0
"""What processes have to end in after their parent has."""
SECONDS_TO_STOP = 30.0
"""What a command has to end in after Ctrl-C or SIGTERM, on a busy machine."""
RUNS = 6
_MAIN = "from octo_bench.cli import main; main()"

STUDY = """
title = "A small study"
seed = 0
episodes = 2

[[policies]]
policy = "{policy}"
head = "diffusion"

[[targets]]
env = "Lift-Panda"
demos = [0, 1]

[demonstrations]
count = 1
first_seed = 1000

[finetune]
mode = "full"
steps = {{ 1 = 6 }}
optimisation = {{ batch_size = 2, checkpoint_every = 2 }}
"""


@dataclass(frozen=True)
class Command:
    """A command, and what it writes to."""

    name: str
    arguments: Callable[[Path], list[str]]


@dataclass(frozen=True)
class Blow:
    """A signal, to whom, and how many seconds after the start of the first run."""

    how: signal.Signals
    whom: str
    after: float

    def __str__(self) -> str:
        return f"{self.how.name} to {self.whom} at {self.after:.1f} s"


@dataclass
class Outcome:
    """What became of a trial: how many blows came before the end, and the problems, if any."""

    blows: Sequence[Blow]
    struck: int
    runs: int
    seconds: float
    problems: list[str]


def commands(folder: Path) -> list[Command]:
    """The commands that are tried; what they need is put into `folder`."""
    study = write_study(folder)
    two = ["--workers", "2"]
    collect = ["collect", "Lift-Panda", "--demos", "3", "--seed", "5", *two]
    freeze = ["freeze", "Lift-Panda", "Lift-IIWA", "Stack-Panda", "--states", "3", *two]
    evaluate = ["evaluate", "random", "Lift-Panda", "--episodes", "4", *two]
    return [
        Command("collect", lambda out: [*collect, "--out", str(out / "lift.hdf5")]),
        Command("freeze", lambda out: [*freeze, "--out", str(out)]),
        Command("evaluate", lambda out: [*evaluate, "--out", str(out / "episodes.parquet")]),
        Command("study", lambda out: ["reproduce", str(study), *two, "--out", str(out)]),
    ]


def undisturbed(command: Command, out: Path) -> tuple[dict[str, str], float]:
    """What a command leaves, and the seconds that it takes once everything is compiled."""
    for folder in (out.with_name(f"{out.name}-first"), out):
        start = time.monotonic()
        ran = subprocess.run(_argv(command, folder), capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"{command.name} fails undisturbed:\n{ran.stderr}")
        seconds = time.monotonic() - start
    return contents(out), seconds


def trial(
    command: Command,
    out: Path,
    expected: dict[str, str],
    seconds: float,
    generator: random.Random,
) -> Outcome:
    """One trial; `seconds` are what the command takes undisturbed."""
    out.mkdir(parents=True)
    limit = 90.0 + 8 * seconds
    blows = sorted(
        (_blow(seconds, generator) for _ in range(generator.choice((1, 1, 2)))),
        key=lambda blow: blow.after,
    )
    outcome = Outcome(blows, 0, 0, 0.0, [])
    start = time.monotonic()
    code: int | None = None
    while code != 0 and outcome.runs < RUNS and not outcome.problems:
        outcome.runs += 1
        code = _run(command, out, blows if outcome.runs == 1 else (), limit, generator, outcome)
    if code != 0 and not outcome.problems:
        outcome.problems.append(f"ends with {code} again and again")
    if not outcome.problems:
        found = contents(out)
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                wrong = "missing" if name not in found else "left over"
                wrong = "differs" if name in found and name in expected else wrong
                outcome.problems.append(f"{name} {wrong}")
    outcome.seconds = time.monotonic() - start
    return outcome


def contents(out: Path) -> dict[str, str]:
    """The files of a folder and hashes of what is determined in them, hidden files as well."""
    found = {}
    for file in sorted(each for each in out.rglob("*") if each.is_file()):
        name = file.relative_to(out).as_posix()
        if "tfevents" in name or name.endswith(("workers.log", ".md", ".png", ".svg")):
            continue  # times, process numbers and what is drawn from the rest
        found[name] = _digest(file)
    return found


def _digest(file: Path) -> str:
    if file.suffix == ".parquet":
        from octo_bench.records.record import VARYING_COLUMNS, read_records

        rows = [dataclasses.asdict(record) for record in read_records(file)]
        kept = [{k: v for k, v in row.items() if k not in VARYING_COLUMNS} for row in rows]
        content = json.dumps(kept).encode()
    elif file.suffix == ".json":
        content = json.dumps(_timeless(json.loads(file.read_text()))).encode()
    elif file.suffix == ".csv":
        content = b""  # has times; the rest is made of the records
    else:
        content = file.read_bytes()
    return hashlib.sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    """Without what tells how long something took."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if "second" not in k}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _run(
    command: Command,
    out: Path,
    blows: Sequence[Blow],
    limit: float,
    generator: random.Random,
    outcome: Outcome,
) -> int | None:
    """Run the command under blows; its exit code. Problems are added to the outcome."""
    start = time.monotonic()
    asked_to_stop: float | None = None
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            _argv(command, out), stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        try:
            for blow in blows:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, blow.after - (time.monotonic() - start)))
                if process.poll() is None:
                    outcome.struck += 1
                    if _strike(process.pid, blow, generator):
                        asked_to_stop = asked_to_stop or time.monotonic()
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                outcome.problems.append(f"run {outcome.runs} hangs after {limit:.0f} s")
                return None
            if asked_to_stop is not None:
                taken = time.monotonic() - asked_to_stop
                if taken > SECONDS_TO_STOP:
                    outcome.problems.append(f"took {taken:.0f} s to stop")
                if code == 0 and taken > SECONDS_TO_LEAVE:
                    outcome.problems.append("was asked to stop and did not")
            if not _gone(process.pid, SECONDS_TO_LEAVE):
                outcome.problems.append(f"run {outcome.runs} leaves {len(_session(process.pid))}")
            said.seek(0)
            text = said.read()
            if code == 70 or (code not in (0, 130, 143) and not blows):
                outcome.problems.append(f"run {outcome.runs} ends with {code}: {text[-2000:]}")
            return code
        finally:
            for pid in _session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def _strike(parent: int, blow: Blow, generator: random.Random) -> bool:
    """Send the signal; whether the command has been asked to stop."""
    workers = [pid for pid in _session(parent) if pid != parent and _is_worker(pid)]
    targets = {"parent": [parent], "all": _session(parent)}.get(blow.whom)
    if targets is None:
        targets = [generator.choice(workers)] if workers else []
    for pid in targets:
        with suppress(ProcessLookupError):
            os.kill(pid, blow.how)
    if blow.how is signal.SIGSTOP and parent in targets:
        time.sleep(generator.uniform(0.5, 3.0))
        for pid in targets:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return parent in targets and blow.how in (signal.SIGINT, signal.SIGTERM)


def _blow(seconds: float, generator: random.Random) -> Blow:
    how = generator.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM))
    whom = generator.choice(("parent", "worker", "all" if how is signal.SIGINT else "worker"))
    # After Python has started: before, the signal is the system's to handle.
    return Blow(how, whom, generator.uniform(min(1.0, seconds / 4), seconds))


def _gone(session: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _session(session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _argv(command: Command, out: Path) -> list[str]:
    return [sys.executable, "-c", _MAIN, *command.arguments(out)]


def write_study(folder: Path) -> Path:
    """A study of a network of a few thousand parameters."""
    import torch

    from helpers.synthetic import tiny_config, toy_demonstrations
    from octo_bench.checkpoints.folder import write_policy
    from octo_bench.demonstrations.windows import statistics_of
    from octo_bench.models.octo import Octo

    torch.manual_seed(0)
    vision = dataclasses.replace(
        tiny_config().vision, widths=(16, 16), strides=(2, 2), stem_stride=4
    )
    network = Octo(tiny_config(image_size=96, vision=vision))
    statistics = statistics_of([toy_demonstrations()], "bounds")
    write_policy(folder / "tiny", network, 4, statistics, "# card\n")
    (folder / "study.toml").write_text(STUDY.format(policy=folder / "tiny"))
    return folder / "study.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--seed", type=int, default=None, help="of the trials; drawn if not given")
    parser.add_argument("--only", nargs="*", help="commands: collect, freeze, evaluate, study")
    options = parser.parse_args(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    failed, counts, in_time = 0, Counter[str](), 0
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    # In the background of a shell, Ctrl-C is ignored, also by what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has started
    try:
        chosen = [
            each for each in commands(folder) if not options.only or each.name in options.only
        ]
        expected = {each.name: undisturbed(each, folder / each.name) for each in chosen}
        for name, (_, seconds) in expected.items():
            print(f"{name}: {seconds:.1f} s undisturbed", flush=True)
        for number in range(options.first, options.first + options.trials):
            generator = random.Random(f"{seed} {number}")  # each trial can be repeated
            command = chosen[number % len(chosen)]
            out = folder / f"trial{number}"
            outcome = trial(command, out, *expected[command.name], generator)
            counts[command.name] += 1
            in_time += bool(outcome.struck)
            failed += bool(outcome.problems)
            struck = ", ".join(map(str, outcome.blows))
            verdict = "FAILED: " + "; ".join(outcome.problems) if outcome.problems else "ok"
            print(
                f"{number} {command.name}: {struck}; {outcome.struck} in time, "
                f"{outcome.runs} runs, "
                f"{outcome.seconds:.0f} s: {verdict}",
                flush=True,
            )
            if not outcome.problems:
                shutil.rmtree(out)
    finally:
        if failed:
            print(f"what failed is in {folder}")
        else:
            shutil.rmtree(folder)
    print(
        f"{sum(counts.values())} trials ({dict(counts)}), {in_time} struck before the end, "
        f"{failed} failed, seed {seed}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
