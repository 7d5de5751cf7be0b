"""A full disk at every stage: one line, and the next run ends as one that was left alone.

    python tests/full_disk.py [--only collect finetune ...]

Needs root, to mount small file systems in memory (tmpfs). A trial runs a command on one of these
that is too small, makes it larger, and runs the same command again: the first run must end with
exit code 2 and one line about the missing space, the second with 0 and with the files of a run
that had room. A line is printed for each trial; the exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos import contents, write_study

SHARES = (0.02, 0.4, 0.9)
"""Of what a command leaves: the room that it has at first."""
SECONDS = 900
ROOM = 2**30
_STAGING = """
execute = 4

[[data]]
env = "Lift-Panda"
demos = 1
first_seed = 1000

[model]
width = 32
window = 1
image_size = 96

[model.vision]
blocks = [1, 1]
widths = [16, 16]
strides = [2, 2]
stem_kernel = 3
stem_stride = 4
stem_maxpool = false
groups = 4
pooling = "flatten"

[model.language]
pretrained = ""
layers = 1
width = 16
heads = 2
feed_forward = 32

[model.transformer]
layers = 2
heads = 2
feed_forward = 64

[model.diffusion]
down_dims = [16, 16]
blocks = 1
step_embedding = 16
groups = 4
condition = 32

[optimisation]
steps = 6
batch_size = 2
checkpoint_every = 2
"""


@dataclass(frozen=True)
class Command:
    """A command, what it writes to, and what has to be there before it.

    `environment`: variables for it, whose values may have `{disk}` in them.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    prepare: Callable[[Path], object] = lambda out: out.mkdir(parents=True, exist_ok=True)
    environment: dict[str, str] = field(default_factory=dict)


def commands(folder: Path) -> list[Command]:
    """The commands that are tried; what they need is put into `folder`."""
    from helpers.octo_1_5_reference import FIXTURE
    from helpers.synthetic_study import episode
    from helpers.synthetic_study import write_study as write_results

    study = write_study(folder)
    (folder / "recipe.toml").write_text(_STAGING)
    lift = folder / "lift.hdf5"
    run_alone(["collect", "Lift-Panda", "--demos", "2", "--seed", "1000", "--out", str(lift)])
    data = folder / "data"
    data.mkdir()
    shutil.copy(lift, data / "Lift-Panda-seed1000.hdf5")
    recipe, film = str(folder / "recipe.toml"), folder / "film.mp4"
    finetune = ["finetune", str(folder / "tiny"), "--demonstrations", str(lift), "--demos", "2"]
    steps = ["--steps", "6", "--batch-size", "2"]

    def results(out: Path) -> None:
        write_results(out / "study", [episode(number, number < 4) for number in range(6)])

    def line(*words: str) -> Callable[[Path], list[str]]:
        return lambda out: [word.format(out=out) for word in words]

    return [
        Command(
            "collect",
            line("collect", "Lift-Panda", "--demos", "2", "--seed", "7", "--out", "{out}/l.hdf5"),
        ),
        Command("finetune", line(*finetune, *steps, "--out", "{out}/policy")),
        Command(
            "pretrain",
            line("pretrain", recipe, "--data", str(data), "--out", "{out}/policy"),
        ),
        Command(
            "evaluate",
            line("evaluate", "random", "Lift-Panda", "--episodes", "4", "--out", "{out}/e.parquet"),
        ),
        Command("study", line("reproduce", str(study), "--workers", "1", "--out", "{out}/run")),
        Command(
            "report",
            line("report", "{out}/study", "--no-films", "--out", "{out}/page/report.html"),
            results,
        ),
        Command("convert", line("convert", str(FIXTURE), "{out}/policy")),
        Command(
            "films",
            line("watch", "random", "Lift-Panda", "--out", str(film)),
            lambda out: film.unlink(missing_ok=True),
            {"TMPDIR": "{disk}"},
        ),
    ]


def run_alone(arguments: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Run a command to its good end, in a process of its own; what it says on stderr."""
    code, said = run_command(arguments, environment or {})
    if code:
        raise RuntimeError(f"{' '.join(arguments)} fails with {code}:\n{said}")
    return said


def run_command(arguments: Sequence[str], environment: dict[str, str]) -> tuple[int | None, str]:
    """Run a command in a process of its own: its exit code, and what it says on stderr."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        said = Path(folder, "stderr")
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_run, args=(list(arguments), environment, said))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None, f"hangs after {SECONDS} s"
        return process.exitcode, said.read_text()


def _run(arguments: list[str], environment: dict[str, str], said: Path) -> None:
    from octo_bench.cli import run

    os.environ.update(environment)
    tempfile.tempdir = None
    with said.open("w") as stderr, open(os.devnull, "w") as stdout:
        os.dup2(stderr.fileno(), 2)
        os.dup2(stdout.fileno(), 1)
        sys.stderr = stderr
        code = run(arguments)
        stderr.flush()
    os._exit(code)


@contextmanager
def mounted(disk: Path) -> Iterator[None]:
    """An empty file system of 1 GiB in memory at `disk`."""
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()


def undisturbed(command: Command, disk: Path) -> tuple[dict[str, str], int]:
    """What a command leaves where there is room, and how many bytes that takes."""
    with mounted(disk):
        command.prepare(disk)
        before = shutil.disk_usage(disk).used
        run_alone(command.arguments(disk), _environment(command, disk))
        return contents(disk), shutil.disk_usage(disk).used - before


def trial(command: Command, disk: Path, expected: dict[str, str], room: int) -> list[str]:
    """One trial; what is wrong, nothing if it went well."""
    with mounted(disk):
        command.prepare(disk)
        _resize(disk, shutil.disk_usage(disk).used + room)
        arguments, environment = command.arguments(disk), _environment(command, disk)
        code, said = run_command(arguments, environment)
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        problems = []
        if code != 2 or len(lines) != 1 or "no space left" not in lines[0]:
            problems.append(f"the first run ends with {code}: {said[-1500:]}")
        _resize(disk, ROOM)
        code, said = run_command(arguments, environment)
        if code:
            return [*problems, f"the second run ends with {code}: {said[-1500:]}"]
        found = contents(disk)
        wrong = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        return [*problems, *(f"{name} is another or left over" for name in wrong)]


def _environment(command: Command, disk: Path) -> dict[str, str]:
    return {key: value.format(disk=disk) for key, value in command.environment.items()}


def _resize(disk: Path, size: int) -> None:
    page = os.sysconf("SC_PAGE_SIZE")  # to which the system rounds up, so that all would fit
    options = f"remount,size={max(size // page, 1) * page}"
    subprocess.run(["mount", "-o", options, disk], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of commands")
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("skipped: only root can mount a small file system")
        return 0
    import octo_bench.cli  # noqa: F401  so that every process has it already

    folder = Path(tempfile.mkdtemp(prefix="full-disk-"))
    failed = trials = 0
    try:
        for command in commands(folder):
            if options.only and command.name not in options.only:
                continue
            disk = folder / "disk"
            expected, left = undisturbed(command, disk)
            # Where only temporary files go there, nothing is left: it is full from the start.
            for room in [int(share * left) for share in options.shares] if left else [0]:
                start = time.monotonic()
                problems = trial(command, disk, expected, room)
                trials += 1
                failed += bool(problems)
                verdict = "FAILED: " + "; ".join(problems) if problems else "ok"
                seconds = time.monotonic() - start
                print(f"{command.name}, {room} bytes: {verdict} ({seconds:.0f} s)", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{trials} trials, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
