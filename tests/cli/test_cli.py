"""The command line: output, exit codes, and one line for each of the user's mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from octo_bench.cli import run
from octo_bench.cli.exits import BROKEN
from octo_bench.paths import results_root


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as a user's mistake; returns its one line."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


COMMANDS = (
    *("envs", "policies", "collect", "demonstrators", "pretrain", "finetune", "evaluate", "watch"),
    *("convert", "speed", "compare", "regress", "bisect", "freeze", "verify", "reproduce"),
    *("report", "replay", "calibrate"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_help_is_fast_because_it_imports_nothing_heavy() -> None:
    program = (
        "import sys; from octo_bench.cli import run; run(['--help'])\n"
        "sys.exit(', '.join({'torch', 'robosuite', 'mujoco', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stderr.strip() == ""


def test_environments_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["envs", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["octo_bench/Stack-Panda-v1"]["embodiment"] == "Panda"
    assert rows["octo_bench/Stack-Panda-v1"]["action_size"] == 7
    assert run(["envs"]) == 0
    assert "octo_bench/Lift-XArm7-v1" in capsys.readouterr().out


def test_policies_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policies", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--jsn" in mistake(capsys, "envs", "--jsn")
    assert "POLICY" in mistake(capsys, "evaluate")


def test_an_error_of_octo_bench_itself_is_not_taken_for_an_answer() -> None:
    program = (
        "import sys; from octo_bench import cli\n"
        "@cli.app.command()\n"
        "def broken(): raise RuntimeError('a bug')\n"
        "sys.exit(cli.run(['broken']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == BROKEN
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("RuntimeError: a bug\n")


def test_a_pipe_that_nobody_reads_is_not_taken_for_an_answer() -> None:
    program = "from octo_bench.cli import main; main()"
    command = [sys.executable, "-c", program, "envs", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        started.stdout.close()
        assert started.wait() == BROKEN


EVALUATE = ("evaluate", "random", "Lift-Panda", "--episodes", "1")
WATCH = ("watch", "random", "Lift-Panda")
REGRESS = ("regress", "random", "--baseline", "absent.parquet")
COLLECT = ("collect", "Lift-Panda", "--demos", "1")
PRETRAIN = ("pretrain", "absent.toml")
FINETUNE = ("finetune", "octo-tiny", "--demonstrations", "absent.hdf5", "--demos", "1")


@pytest.mark.parametrize(
    "command",
    [
        (*EVALUATE, "--out"),
        (*WATCH, "--out"),
        (*COLLECT, "--out"),
        (*REGRESS, "--out"),
        (*REGRESS, "--junit"),
        ("compare", "absent.parquet", "absent.parquet", "--out"),
        ("replay", "quick", "3", "--out"),
        ("envs", "--render"),
        ("speed", "--simulation", "--out"),
        ("demonstrators", "--out"),
        ("report", "quick", "--no-films", "--out"),
    ],
    ids=" ".join,
)
def test_a_place_for_no_file_is_one_line_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    suffixes = {"demonstrators": "csv", "report": "html", "collect": "hdf5"}
    suffixes |= {"watch": "png", "replay": "mp4"}
    name = f"a.{suffixes.get(command[0], 'parquet')}"
    folder, file = tmp_path / name, tmp_path / "file"
    folder.mkdir()
    file.touch()
    assert f"{folder}: is a folder" in mistake(capsys, *command, str(folder))
    assert f"in {file} (Not a directory)" in mistake(capsys, *command, str(file / name))
    assert "written in /proc (" in mistake(capsys, *command, f"/proc/nowhere/{name}")
    assert sorted(tmp_path.iterdir()) == sorted([folder, file])
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        (*REGRESS, "--films"),
        ("reproduce", "quick", "--out"),
        ("freeze", "Lift-Panda", "--out"),
        (*PRETRAIN, "--out"),
        (*PRETRAIN, "--out", "new", "--data"),
        (*FINETUNE, "--out"),
    ],
    ids=" ".join,
)
def test_a_place_for_no_folder_is_one_line_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert f"{file}: is not a folder" in mistake(capsys, *command, str(file))
    assert "written in /proc (" in mistake(capsys, *command, "/proc/nowhere")


@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        ((*EVALUATE, "--out"), ".parquet"),
        ((*REGRESS, "--out"), ".parquet"),
        ((*WATCH, "--out"), ".mp4"),
        (("demonstrators", "--out"), ".csv"),
        ((*COLLECT, "--out"), ".hdf5"),
    ],
)
def test_a_file_of_another_kind_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], suffix: str
) -> None:
    out = tmp_path / "episodes.txt"
    line = mistake(capsys, *command, str(out))
    assert line.startswith(f"error: {out}: ")
    assert suffix in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            (*EVALUATE, "--out", "a.parquet", "--level", "9"),
            "--level has no effect without --suite",
        ),
        ((*WATCH, "--out", "a.png", "--level", "1"), "--level has no effect without --suite"),
        (("verify", "--determinism", "--level", "2"), "--level has no effect without --suite"),
        (("verify", "--policy", "nosuch"), "--policy has no effect without --determinism"),
        (("verify", "--episodes", "3"), "--episodes has no effect without --determinism"),
        (("verify", "a.hdf5", "--env", "Lift-Panda"), "--env has no effect without --determinism"),
        (("verify", "a.hdf5", "--determinism"), "--determinism has no effect with files to replay"),
        (("envs", "--beside-stock"), "--beside-stock has no effect without --render"),
        ((*REGRESS, "--baseline-policy", "x"), "--baseline-policy has no effect without --films"),
        ((*REGRESS, "--golden-only", "--films", "x"), "--films has no effect with --golden-only"),
        ((*REGRESS, "--write-golden", "--out", "x"), "--out has no effect with --write-golden"),
        (("speed", "octo-tiny", "--steps", "3"), "--steps has no effect without --simulation"),
        (("speed", "--simulation", "--threads", "1"), "--threads has no effect with --simulation"),
        (
            ("reproduce", "quick", "--sample-seed", "0"),
            "--sample-seed has no effect without --sample",
        ),
    ],
)
def test_an_option_that_says_nothing_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mistake(capsys, *command) == f"error: {said}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "default"), [("speed", "30, simulation 5"), ("replay", "EPISODE.mp4")]
)
def test_defaults_are_in_the_help(
    capsys: pytest.CaptureFixture[str], command: str, default: str
) -> None:
    assert run([command, "--help"]) == 0
    assert f"[default: ({default})]" in capsys.readouterr().out


def test_an_unknown_environment_is_answered_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    name = "octo_bench/Stak-Panda-v1"
    line = mistake(capsys, "evaluate", "random", name, "--episodes", "1", "--out", str(out))
    assert "unknown environment 'octo_bench/Stak-Panda-v1'" in line
    assert "octo_bench/Stack-Panda-v1" in line
    line = mistake(capsys, "collect", name, "--demos", "1", "--out", str(tmp_path / "a.hdf5"))
    assert "octo_bench/Stack-Panda-v1" in line
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_policy_is_answered_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.parquet")
    line = mistake(capsys, "evaluate", "randon", "Lift-Panda", "--episodes", "1", "--out", out)
    assert "unknown policy 'randon'; did you mean random" in line
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "unknown study 'quik'; did you mean quick" in mistake(capsys, "reproduce", "quik")


def test_a_path_without_a_study_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "study.toml"
    for command in ("reproduce", "report"):
        assert f"error: {absent}: no such file" in mistake(capsys, command, str(absent))
        assert f"error: {tmp_path}: has no study.toml" in mistake(capsys, command, str(tmp_path))


def test_a_study_with_a_wrong_key_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (results_root() / "quick" / "study.toml").read_text()
    study = tmp_path / "study.toml"
    study.write_text(text.replace("episodes = 50", "episods = 50"))
    line = mistake(capsys, "reproduce", str(study))
    assert line.startswith(f"error: {study}: unknown key 'episods'; did you mean 'episodes'?")
    assert [file.name for file in tmp_path.iterdir()] == ["study.toml"]


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_broken_demonstration_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file, out = tmp_path / "demonstrations.hdf5", tmp_path / "policy"
    file.write_bytes(content)
    options = ["--demonstrations", str(file), "--demos", "1", "--out", str(out)]
    line = mistake(capsys, "finetune", "octo-tiny", *options)
    assert line.startswith(f"error: {file}: ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("random", ["--execute", "2"], "random has no inference options; leave out execute=2"),
        ("expert", ["--half"], "leave out precision=bfloat16"),
        ("octo-tiny", ["--execute", "5"], "chunks of 4 actions"),
        ("octo-tiny", ["--execute", "0"], "greater than or equal to 1"),
        ("octo-tiny", ["--execute", "2", "--ensemble"], "leave out execute"),
        ("octo-tiny", ["--diffusion-steps", "11"], "use at most 10"),
        ("octo-tiny-categorical", ["--diffusion-steps", "5"], "no diffusion head"),
        ("octo-tiny", ["--task", "sign"], "'sign' is not one of"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "watch"])
def test_options_that_a_policy_does_not_have_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    policy: str,
    options: list[str],
    message: str,
) -> None:
    out = {"evaluate": ["--out", "a.parquet", "--episodes", "1"], "watch": ["--out", "a.png"]}
    arguments = [str(tmp_path / each) if "." in each else each for each in out[command]]
    assert message in mistake(capsys, command, policy, "Lift-Panda", *arguments, *options)
    assert list(tmp_path.iterdir()) == []


def test_compiling_without_a_compiler_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-compiler")
    options = ["--episodes", "1", "--out", str(tmp_path / "out.parquet"), "--compile"]
    line = mistake(capsys, "evaluate", "octo-tiny", "Lift-Panda", *options)
    assert "needs the C++ compiler 'no-compiler'; install" in line


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one page, which is full after that."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can make a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_robosuite_does_not_talk_between_our_lines(tmp_path: Path) -> None:
    program = "from octo_bench.cli import main; main()"
    command = [sys.executable, "-c", program, *COLLECT, "--out", str(tmp_path / "a.hdf5")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[robosuite" not in ran.stdout + ran.stderr


def test_a_full_disk_is_one_line_and_leaves_nothing(
    full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = full_disk / "out.parquet"
    assert run(["evaluate", "random", "Lift-Panda", "--episodes", "2", "--out", str(out)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {out}: no space left")
    assert list(full_disk.iterdir()) == []


def test_collecting_onto_a_full_disk_is_one_line_and_goes_on_when_there_is_space(
    full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = full_disk / "demonstrations.hdf5"
    command = ["collect", "Lift-Panda", "--demos", "1", "--out", str(out)]
    assert run(command) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {out}: no space left")
    assert not out.exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(full_disk)], check=True)
    assert run(command) == 0
    assert list(full_disk.iterdir()) == [out]


def test_a_study_on_a_full_disk_is_one_line(
    full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = """
        title = "Chance"
        seed = 0
        episodes = 1
        policies = [{ policy = "random" }]
        targets = [{ env = "Lift-Panda", demos = [0] }]
        demonstrations = { count = 0, first_seed = 0 }
    """
    (full_disk.parent / "study.toml").write_text(study)
    arguments = [str(full_disk.parent / "study.toml"), "--workers", "1", "--out", str(full_disk)]
    assert run(["reproduce", *arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {full_disk}")
    assert "no space left" in line
    assert not [file for file in full_disk.rglob("*") if file.suffix in (".tmp", ".parquet")]
