"""How fast policies answer: what is measured of them, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from octo_bench.agents.inference import DEFAULT
from octo_bench.checkpoints.config import CONFIG, PolicyConfig
from octo_bench.checkpoints.folder import Policy, build_model
from octo_bench.cli import run
from octo_bench.demonstrations.normalisation import Affine, Statistics
from octo_bench.models.octo_1_5.config import (
    DiffusionConfig,
    ImageTokenizerConfig,
    Octo15Config,
    T5Config,
)
from octo_bench.paths import inference_table
from octo_bench.reports.policy_speed import read_published
from octo_bench.speed.asked_policy import AskedPolicy, Query

PARAMETERS = 2_781_223
"""Of octo-tiny, as its model card says."""
SMALLEST_15 = Octo15Config(
    width=32,
    layers=2,
    heads=2,
    feed_forward=64,
    images=(
        ImageTokenizerConfig("primary", "image_primary", 32, (32, 32, 32, 32), 32),
        ImageTokenizerConfig("wrist", "image_wrist", 16, (32, 32, 32, 32), 32),
    ),
    language=T5Config(
        vocabulary=64, width=16, head_width=8, feed_forward=32, layers=1, heads=2, tokens=16
    ),
    diffusion=DiffusionConfig(hidden=32),
)


def measure(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    """The rows that `octo-bench speed` prints for programs."""
    assert run(["speed", *arguments, "--json", "--repeats", "2", "--threads", "1"]) == 0
    return json.loads(capsys.readouterr().out)


def only(*names: str) -> list[str]:
    return [part for name in names for part in ("--only", name)]


def test_options_are_measured_beside_eager(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "policies.json"
    threads = torch.get_num_threads()
    options = only("half", "5 steps", "batch 4", "naive loop")
    rows = {row["option"]: row for row in measure(capsys, "octo-tiny", *options, "--out", str(out))}
    assert torch.get_num_threads() == threads
    # The naive loop is Octo 1.5's.
    assert list(rows) == ["eager", "half", "5 steps", "batch 4"]
    eager = rows["eager"]
    assert eager["drift_max"] == eager["drift_rms"] == 0
    assert eager["speedup"] == 1
    assert rows["batch 4"]["drift_max"] < 1e-5
    assert 0 < rows["half"]["drift_rms"] < eager["noise_rms"]
    assert rows["5 steps"]["drift_rms"] > 0
    for row in rows.values():
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        actions = row["chunk"] * row["batch"]
        assert row["actions_per_second"] == pytest.approx(1e3 * actions / row["p50_ms"])
        assert row["compile_s"] is None
        assert row["parameters_total"] == sum(row["parameters"].values()) == PARAMETERS
        assert row["parameters_without_t5"] == PARAMETERS - row["parameters"]["t5"]
        assert row["instruction_ms"] > 0
        assert not row["random_weights"]
    assert [rows[name]["calls"] for name in rows] == [2, 2, 2, 1]
    assert all(milliseconds >= 0 for milliseconds in eager["profile"].values())

    (written,) = json.loads(out.read_text())["policies"]
    assert [row["option"] for row in written["options"]] == list(rows)
    page = (tmp_path / "README.md").read_text()
    for model, hz in (("RT-1", 3), ("RT-2", 1), ("OpenVLA", 8), ("Octo", 10)):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {model} |")]
        assert "| published |" in line
        assert f"| about {hz} |" in line
        assert "arXiv" in line
    assert "| octo-tiny, eager | 2.7 M | measured |" in page


def test_a_network_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "untrained"
    folder.mkdir()
    model = {"width": 32, "layers": 2, "heads": 2, "feed_forward": 64, "head": "l1"}
    model["images"] = [
        {"name": "wrist", "image": "image_wrist", "size": 16, "features": [32] * 4, "embedding": 8}
    ]
    model["language"] = {"vocabulary": 64, "width": 16, "head_width": 8, "heads": 2, "layers": 1}
    table = {"format": 1, "architecture": "octo-1.5", "model": model, "execute": 4}
    (folder / CONFIG).write_text(json.dumps(table))
    assert run(["speed", str(folder), *only("5 steps", "naive loop"), "--repeats", "1"]) == 0
    printed = capsys.readouterr()
    note = [line for line in printed.err.splitlines() if "random" in line]
    assert note == [f"{folder}: its folder has no weights; measured with random ones"]
    # Nothing is denoised: only eager is left.
    assert len(printed.out.splitlines()) == 2
    (row,) = measure(capsys, str(folder), *only("5 steps", "naive loop"))
    assert row["random_weights"]
    assert row["noise_max"] == 0


def test_the_naive_loop_comes_to_the_same_actions() -> None:
    torch.manual_seed(0)
    identity = Affine(np.zeros(7, np.float32), np.ones(7, np.float32))
    policy = Policy(
        Path(),
        PolicyConfig(architecture="octo-1.5", model=SMALLEST_15, execute=4),
        Statistics("bounds", identity, {"default": identity}),
        build_model(SMALLEST_15).eval(),
    )
    fast, naive = AskedPolicy(policy, DEFAULT), AskedPolicy(policy, DEFAULT, naive=True)
    query = Query.random(policy, fast.noise_shape, 2, seed=0)
    _, embedded = fast.embed_instruction()
    answers = []
    for asked in (fast, naive):
        asked.remember_instruction(embedded)
        answers.append(asked.ask(query)[1])
    assert np.ptp(answers[0]) > 0.1
    np.testing.assert_allclose(*answers, atol=1e-4)


def test_shipped_networks_are_those_that_were_released() -> None:
    from octo_bench.checkpoints.config import find_policy, read_config

    for name, count in (("octo-small-1.5", 27_042_060), ("octo-base-1.5", 92_830_092)):
        with torch.device("meta"):
            model = build_model(read_config(find_policy(name)).model)
        without = [p for n, p in model.named_parameters() if not n.startswith("language.t5.")]
        assert sum(p.numel() for p in without) == count


def test_what_cannot_be_measured_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: str) -> str:
        assert run(["speed", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "--simulation" in refuse()
    assert "policies" in refuse("octo-tiny", "--simulation")
    assert "did you mean octo-tiny" in refuse("octo-tinny")
    assert "is not a network" in refuse("random")
    assert "did you mean half" in refuse("octo-tiny", "--only", "halff")
    foreign = tmp_path / "README.md"
    foreign.write_text("# Mine\n")
    assert str(foreign) in refuse("octo-tiny", "--out", str(tmp_path / "policies.json"))
    assert foreign.read_text() == "# Mine\n"


def test_published_figures_name_their_source() -> None:
    published = read_published(inference_table())
    assert [each.model for each in published] == ["RT-1", "RT-2", "OpenVLA", "Octo"]
    assert all(each.source for each in published)


def test_what_was_measured_on_the_same_machine_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "policies.json"

    def measured() -> list[str]:
        return [row["policy"] for row in json.loads(out.read_text())["policies"]]

    for policy in ("octo-tiny-categorical", "octo-tiny", "octo-tiny-categorical"):
        measure(capsys, policy, *only("half"), "--out", str(out))
    assert measured() == ["octo-tiny-categorical", "octo-tiny"]
    written = json.loads(out.read_text())
    out.write_text(json.dumps({**written, "machine": {**written["machine"], "cores": 1000}}))
    assert run(["speed", "octo-tiny", "--only", "half", "--out", str(out)]) == 2
    assert "another machine" in capsys.readouterr().err
    out.write_text("[]")
    assert run(["speed", "octo-tiny", "--out", str(out)]) == 2
    assert "is not what `octo-bench speed` writes" in capsys.readouterr().err
