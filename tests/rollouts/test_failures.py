"""Episodes that die of the infrastructure: tried again, recorded as errors, harmless to others."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octo_bench.agents.random import RandomAgent
from octo_bench.cli import run
from octo_bench.cli.exits import INTERRUPTED, INVALID
from octo_bench.records.conditions import PLAIN
from octo_bench.records.record import VARYING_COLUMNS, EpisodeRecord, read_records
from octo_bench.rollouts import batches
from octo_bench.rollouts.batches import ATTEMPTS, Share, roll_shares
from octo_bench.rollouts.episodes import INFRASTRUCTURE_ERRORS, roll_out
from octo_bench.rollouts.evaluate import evaluate
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.studies.cells import Cell
from octo_bench.studies.entries import PolicyEntry
from octo_bench.studies.tasks import measure

LIFT = "octo_bench/Lift-Panda-v1"
EPISODES = 6
FatalError = INFRASTRUCTURE_ERRORS[0]  # MuJoCo's, which is not to be imported before octo_bench


def determined(records: list[EpisodeRecord]) -> list[dict[str, object]]:
    """Records as dictionaries, less the columns that differ from run to run."""
    rows = [dataclasses.asdict(record) for record in records]
    return [{k: v for k, v in row.items() if k not in VARYING_COLUMNS} for row in rows]


@pytest.fixture(scope="module")
def undisturbed() -> list[EpisodeRecord]:
    return evaluate("random", LIFT, EPISODES, progress=False)


@pytest.fixture(scope="module")
def lift() -> Iterator[OctoBenchEnvironment]:
    env = OctoBenchEnvironment(LIFT, images=False)
    yield env
    env.close()


class Faulty(OctoBenchEnvironment):
    """Breaks in its `at`-th step of the episode whose seed ends in `episode`, `times` times."""

    at, episode, times = 5, 2, 1
    error: Exception = FatalError("mj_stackAlloc: out of memory, stack overflow")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple:
        self.steps, self.seed = 0, seed
        if self.at == 0:
            self.break_down()
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray, *, observe: bool = True) -> tuple:
        self.steps += 1
        if self.steps == self.at:
            self.break_down()
        return super().step(action, observe=observe)

    def break_down(self) -> None:
        cls = type(self)
        if self.seed % 100 == cls.episode and cls.times:
            cls.times -= 1
            raise cls.error


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Faulty]]:
    """Evaluations in this process get environments of a kind that breaks as often as it is told."""

    class Mine(Faulty):
        built = 0

        def __init__(self, *arguments: Any, **options: Any) -> None:
            type(self).built += 1
            super().__init__(*arguments, **options)

    batches.discard_environments()
    monkeypatch.setattr(batches, "OctoBenchEnvironment", Mine)
    yield Mine
    batches.discard_environments()


@pytest.mark.parametrize(
    ("at", "error"),
    [
        (5, FatalError("stack overflow")),
        (0, FatalError("stack overflow")),
        (5, np.linalg.LinAlgError("singular")),
        (5, MemoryError()),
    ],
    ids=["step", "reset", "linear algebra", "memory"],
)
def test_an_episode_that_breaks_once_is_done_again_in_a_fresh_environment(
    undisturbed: list[EpisodeRecord], faulty: type[Faulty], at: int, error: Exception
) -> None:
    faulty.at, faulty.error = at, error
    records = evaluate("random", LIFT, EPISODES, progress=False)
    assert determined(records) == determined(undisturbed)
    assert [record.attempts for record in records] == [1, 1, 2, 1, 1, 1]
    assert faulty.built == EPISODES + 1


def test_an_episode_that_always_breaks_is_an_error_and_no_failure(
    undisturbed: list[EpisodeRecord], faulty: type[Faulty]
) -> None:
    faulty.times = 1000
    records = evaluate("random", LIFT, EPISODES, progress=False)
    broken = records.pop(2)
    assert broken.error == "FatalError: mj_stackAlloc: out of memory, stack overflow"
    assert (broken.attempts, broken.success_once, broken.episode) == (ATTEMPTS, False, 2)
    assert broken.initial_state_sha256 == undisturbed[2].initial_state_sha256
    assert faulty.times == 1000 - ATTEMPTS
    assert determined(records) == determined([*undisturbed[:2], *undisturbed[3:]])


def test_a_run_with_many_errors_is_written_and_invalid(
    faulty: type[Faulty], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faulty.times = 1000
    out = tmp_path / "episodes.parquet"
    options = ["--episodes", str(EPISODES), "--out", str(out)]
    assert run(["evaluate", "random", LIFT, *options]) == INVALID
    printed = capsys.readouterr()
    assert "0 of 5 episodes succeeded" in printed.out
    assert "counting errors as failures: 0.0%; as successes: 16.7%" in printed.out
    assert "infrastructure errors: 1 of 6 episodes" in printed.err
    assert len(read_records(out)) == EPISODES


def test_an_environment_that_broke_is_not_used_again() -> None:
    class Once(Faulty):
        episode = 0

    broken, sound = Once(LIFT, images=False), OctoBenchEnvironment(LIFT, images=False)
    records = list(roll_out(RandomAgent(7), [broken, sound], range(3), 0))
    assert [(r.episode, bool(r.error)) for r in records] == [(0, True), (1, False), (2, False)]
    alone = list(roll_out(RandomAgent(7), [Faulty(LIFT, images=False)], [2, 0], 0))
    assert [r.episode for r in alone] == [2]


def test_a_policy_that_breaks_down_costs_the_other_episodes_nothing(
    undisturbed: list[EpisodeRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(RandomAgent):
        """Breaks down whenever it is asked for episode 2, as its noise tells."""

        def act(self, observations: Any, tasks: Any, noise: np.ndarray) -> np.ndarray:
            if any(np.array_equal(row, first) for row in noise):
                raise np.linalg.LinAlgError("Singular matrix")
            return super().act(observations, tasks, noise)

    seen: list[np.ndarray] = []
    monkeypatch.setattr(RandomAgent, "act", _spy(RandomAgent.act, seen))
    evaluate("random", LIFT, 1, first_episode=2, progress=False)
    monkeypatch.undo()
    first = seen[0][0]
    monkeypatch.setattr(batches, "load_agent", lambda *_: Breaking(7))
    records = evaluate("random", LIFT, EPISODES, progress=False)
    assert [r.error for r in records] == ["", "", "LinAlgError: Singular matrix", "", "", ""]
    assert [r.attempts for r in records] == [2, 2, 3, 2, 2, 2]
    assert determined(records)[3:] == determined(undisturbed)[3:]
    batches.forget_agents()


def _spy(act: Any, seen: list[np.ndarray]) -> Any:
    def spying(self: Any, observations: Any, tasks: Any, noise: np.ndarray) -> np.ndarray:
        seen.append(noise)
        return act(self, observations, tasks, noise)

    return spying


def test_actions_that_break_the_physics_are_a_failure_of_the_policy() -> None:
    """The next episode of the same environment comes out as in a fresh one."""

    class Wild(OctoBenchEnvironment):
        broken = False

        def step(self, action: np.ndarray, *, observe: bool = True) -> tuple:
            stepped = super().step(action, observe=observe)
            if not self.broken and self._steps == 2:
                self.world.data.qvel[0] = np.nan
                type(self).broken = True
            return stepped

    wild = [Wild(LIFT, images=False)]
    first, second = roll_out(RandomAgent(7), wild, [0, 1], 0)
    assert (first.error, first.steps, first.success_once, first.success_held) == (
        "",
        3,
        False,
        False,
    )
    assert first.policy_fault == (
        "its action 2 broke the physics: the simulation is unstable: velocities diverged"
    )
    (alone,) = roll_out(RandomAgent(7), [OctoBenchEnvironment(LIFT, images=False)], [1], 0)
    assert determined([second]) == determined([alone])


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (np.zeros((8, 4, 8)), "its action chunk has shape (8, 4, 8), not (8, at least 4, 7)"),
        (np.zeros((8, 4, 6)), "its action chunk has shape (8, 4, 6), not (8, at least 4, 7)"),
        (np.zeros((4, 4, 7)), "its action chunk has shape (4, 4, 7), not (8, at least 4, 7)"),
        (np.zeros((8, 2, 7)), "its action chunk has shape (8, 2, 7), not (8, at least 4, 7)"),
        (np.zeros((8, 0, 7)), "its action chunk has shape (8, 0, 7), not (8, at least 4, 7)"),
        (np.zeros((8, 7)), "its action chunk has shape (8, 7), not (8, at least 4, 7)"),
        (np.zeros((8, 4, 7), complex), "its action chunk has entries of type complex128"),
        (np.full((8, 4, 7), "up"), "its action chunk has entries of type <U2"),
        ([[0.0], [0.0, 1.0]], "its action chunk is not an array of numbers"),
        (None, "its action chunk has entries of type object"),
    ],
    ids=str,
)
def test_an_answer_of_another_shape_or_type_is_a_failure_of_the_policy(
    lift: OctoBenchEnvironment, answer: object, fault: str
) -> None:
    class Wrong(RandomAgent):
        execute = 4

        def act(self, *asked: Any) -> object:
            return answer

    (record,) = roll_out(Wrong(7), [lift], [0], 0)
    assert (record.policy_fault, record.error, record.steps) == (fault, "", 0)
    assert (record.success_once, record.success_held, record.furthest_stage) == (
        False,
        False,
        "none",
    )


def test_an_agent_that_executes_nothing_does_not_hang(lift: OctoBenchEnvironment) -> None:
    agent = RandomAgent(7)
    agent.execute = 0
    (record,) = roll_out(agent, [lift], [0], 0)
    assert record.policy_fault == "it executes 0 actions of each chunk"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        ConnectionResetError("Connection reset by peer"),
        TimeoutError("timed out"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_and_connections_are_the_infrastructures(
    lift: OctoBenchEnvironment, error: Exception
) -> None:
    class Breaking(RandomAgent):
        def act(self, *asked: Any) -> np.ndarray:
            raise error

    (record,) = roll_out(Breaking(7), [lift], [0], 0)
    assert record.error == f"{type(error).__name__}: {error}"
    assert (record.policy_fault, record.success_held) == ("", False)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), FileNotFoundError("notes.txt")])
def test_a_bug_of_a_policy_is_not_the_infrastructures(
    lift: OctoBenchEnvironment, error: Exception
) -> None:
    class Buggy(RandomAgent):
        def act(self, *asked: Any) -> np.ndarray:
            raise error

    with pytest.raises(type(error), match=str(error)):
        list(roll_out(Buggy(7), [lift], [0], 0))


def test_a_policy_that_answers_with_no_number_has_failed() -> None:
    class NotANumber(RandomAgent):
        queries = 0

        def act(self, *asked: Any) -> np.ndarray:
            actions = super().act(*asked)
            self.queries += 1
            if self.queries > 5:
                actions[0, 0, 3] = np.nan
            return actions

    environments = [OctoBenchEnvironment(LIFT, images=False) for _ in range(2)]
    first, second = sorted(
        roll_out(NotANumber(7), environments, [0, 1], 0), key=lambda record: record.episode
    )
    assert (first.error, first.success_once, first.attempts) == ("", False, 1)
    assert (first.policy_fault, first.steps) == ("its action 5 is not finite", 5)
    assert np.isfinite(first.action_jerk)
    assert (second.policy_fault, second.steps) == ("", 100)


# In processes.


class Killer(OctoBenchEnvironment):
    """Ends its process in the middle of episode 2, once for each file `kill*`."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple:
        self.seed, self.steps = seed, 0
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray, *, observe: bool = True) -> tuple:
        self.steps += 1
        kills = sorted(Path(os.environ["OCTO_BENCH_TEST"]).glob("kill*"))
        if self.seed % 100 == 2 and self.steps == 50 and kills:
            kills[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action, observe=observe)


def deadly_share(share: Share) -> Iterator[list[EpisodeRecord]]:
    batches.OctoBenchEnvironment = Killer  # this is a process of its own
    return roll_share(share)


roll_share = batches.roll_share


@pytest.mark.parametrize("kills", [1, ATTEMPTS])
def test_a_killed_process_takes_no_other_episode_along(
    undisturbed: list[EpisodeRecord],
    kills: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(kills):
        (tmp_path / f"kill{number}").touch()
    monkeypatch.setenv("OCTO_BENCH_TEST", str(tmp_path))
    monkeypatch.setattr(batches, "roll_share", deadly_share)
    monkeypatch.setattr(batches, "EPISODES_PER_SHARE", 3)
    records = evaluate("random", LIFT, EPISODES, workers=2, progress=False)
    killed = records[2]
    assert killed.attempts == min(kills + 1, ATTEMPTS)
    if kills == ATTEMPTS:
        assert killed.error == "the process was killed by SIGKILL"
        assert not killed.success_once
        records, undisturbed = ([*each[:2], *each[3:]] for each in (records, undisturbed))
    assert determined(records) == determined(undisturbed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("episodes", "workers", "sizes"),
    [
        (16, 2, [8, 8]),
        (50, 2, [13, 13, 12, 12]),
        (50, 3, [9, 9, 8, 8, 8, 8]),
        (3, 8, [1, 1, 1]),
        (20, 1, [10, 10]),
    ],
)
def test_episodes_are_dealt_out_evenly(episodes: int, workers: int, sizes: list[int]) -> None:
    dealt = Share("random", LIFT, tuple(range(episodes))).split(workers)
    assert [len(share.numbers) for share in dealt] == sizes
    assert [number for share in dealt for number in share.numbers] == list(range(episodes))


def test_shares_may_be_added_and_the_rest_be_left(undisturbed: list[EpisodeRecord]) -> None:
    first = Share("random", LIFT, (0, 1))
    waiting = deque([first])
    found: list[EpisodeRecord] = []
    rolling = roll_shares(waiting, 2)
    for finished in rolling:
        if finished and len(found) == 0:
            waiting.append(dataclasses.replace(first, numbers=(2, 3)))
            waiting.append(dataclasses.replace(first, numbers=(4, 5)))
        found += finished
        if len(found) >= 4:
            break
    rolling.close()
    rows = determined(undisturbed)
    assert all(row in rows for row in determined(found))


def test_a_study_goes_on_where_a_process_died_before(
    undisturbed: list[EpisodeRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(ATTEMPTS):
        (tmp_path / f"kill{number}").touch()
    monkeypatch.setenv("OCTO_BENCH_TEST", str(tmp_path))
    monkeypatch.setattr(batches, "roll_share", deadly_share)
    keys = {"policy_key": "1" * 64, "key": "0" * 64}
    cell = Cell(PolicyEntry("random"), LIFT, demos=0, draw=0, train_seed=0, condition=PLAIN, **keys)
    out = tmp_path / "cell" / "episodes.parquet"
    out.parent.mkdir()
    mark = out.with_suffix(".begun")
    mark.touch()  # as a process leaves it that is killed
    summary = measure(cell, "random", seed=0, first_episode=0, episodes=EPISODES, out=out)
    assert (summary["episodes"], summary["errors"]) == (EPISODES, 1)
    assert [bool(r.error) for r in read_records(out)] == [n == 2 for n in range(EPISODES)]
    assert not mark.exists()


def test_ctrl_c_ends_an_evaluation_with_its_processes(tmp_path: Path) -> None:
    program = "from octo_bench.cli import main\nif __name__ == '__main__':\n    main()\n"
    (tmp_path / "program.py").write_text(program)
    out = tmp_path / "episodes.parquet"
    command = ["evaluate", "random", LIFT, "--episodes", "640", "--workers", "2", "--out", str(out)]
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        said = (line for line in process.stderr if re.search(r"[1-9]\d* of 640", line))
        assert next(said, None), "it ended before an episode did"
        os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
        assert process.wait(30) == INTERRUPTED
        rest = process.stderr.read()
    assert rest.splitlines()[-1].startswith("interrupted; finished work is kept")
    assert "Traceback" not in rest
    assert not out.exists()
    assert len(read_records(tmp_path / ".episodes.parquet.part")) >= 1
    for _ in range(100):
        if not _group(process.pid):
            break
        time.sleep(0.1)
    assert not _group(process.pid)


def _group(leader: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
