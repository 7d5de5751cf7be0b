"""The loop learns, resumes bit-exactly, and its modes train what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.synthetic import SIZE, tiny_config, toy_demonstrations
from octo_bench.checkpoints.folder import read_policy
from octo_bench.demonstrations.normalisation import write_statistics
from octo_bench.demonstrations.windows import Windows, statistics_of
from octo_bench.errors import BadCheckpoint, BadFile, BadRecipe
from octo_bench.models.octo import Octo
from octo_bench.training import loop
from octo_bench.training.augmentation import augment
from octo_bench.training.finetune import FinetuneSettings, finetune
from octo_bench.training.objective import objective
from octo_bench.training.pretrain import pretrain_on
from octo_bench.training.recipes import Data, Recipe, read_recipe
from octo_bench.training.settings import Augmentation, Optimisation, TaskModes

FAST = Optimisation(steps=6, batch_size=4, warmup=2, noise_draws=2, checkpoint_every=3, log_every=2)


def recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "data": (Data("octo_bench/Follow-Toy-v1", 4, 0),),
        "model": tiny_config(),
        "optimisation": FAST,
        "execute": 2,
    }
    return Recipe(**{**values, **changes})


def pretrained(folder: Path, **changes: object) -> Path:
    declared = recipe(**changes)
    pretrain_on(declared, [toy_demonstrations()], folder, recipe=Path("r.toml"), progress=False)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    """Top-level parts of the model whose tensors differ between two policy folders."""
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize(
    ("head", "steps"),
    [("diffusion", 200), ("categorical", 120)],
)
def test_loop_overfits_a_few_episodes(tmp_path: Path, head: str, steps: int) -> None:
    demonstrations = toy_demonstrations(2)
    config = tiny_config(head=head)
    config = replace(config, diffusion=replace(config.diffusion, prediction="sample"))
    statistics = statistics_of([demonstrations], "bounds")
    windows = Windows([demonstrations], statistics, window=1, chunk=4, proprio=config.proprio)
    torch.manual_seed(0)
    model = Octo(config)
    settings = replace(
        FAST,
        steps=steps,
        batch_size=16,
        learning_rate=5e-3,
        noise_draws=8,
        ema_decay=0.9,
        proprio_dropout=0.0,
        augmentation=Augmentation(0, 0, 0, 0),
        checkpoint_every=1000,
    )
    aim = objective(model, windows, settings, tmp_path)
    loop.train(aim, settings, tmp_path, seed=0, fingerprints={}, progress=False)
    draw = windows.at(torch.arange(0, 20), torch.zeros(20, dtype=torch.long))
    with torch.inference_mode():
        primary, wrist, _ = model.encode_images(
            windows.primary(draw.frames[:, 0]), windows.wrist(draw.frames[:, 0])
        )
        text, none = model.encode_instructions(windows.texts), torch.full((20,), -1)
        features = model.features(
            model.task(text, draw.instructions, None, none),
            primary.unsqueeze(1),
            wrist.unsqueeze(1),
            draw.proprio,
            draw.timestep_mask,
        )
        noise = torch.randn(20, *model.head.noise_shape)
        predicted = model.sample(features[:, 0], noise)
    wanted = draw.actions[:, 0, 0, :2]
    error = (predicted[:, 0, :2] - wanted).abs().mean()
    assert error < 0.5 * (wanted - wanted.mean(0)).abs().mean()


@pytest.mark.parametrize("modes", [TaskModes(), TaskModes(0, 1, 0, 0), TaskModes(0, 0, 0, 1)])
def test_every_mix_of_task_modes_trains(tmp_path: Path, modes: TaskModes) -> None:
    settings = replace(FAST, task_modes=modes)
    pretrained(tmp_path, model=tiny_config(window=2), optimisation=settings)


class Interrupted(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("head", ["diffusion", "categorical"])
def test_resume_is_bit_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    model = tiny_config(head=head)
    whole = pretrained(tmp_path / "whole", model=model)
    rate = loop.learning_rate

    def fail_at_five(step: int, settings: Optimisation) -> float:
        if step == 4:
            raise Interrupted
        return rate(step, settings)

    cut = tmp_path / "cut"
    monkeypatch.setattr(loop, "learning_rate", fail_at_five)
    with pytest.raises(Interrupted):
        pretrained(cut, model=model)
    assert {p.name for p in cut.iterdir()} == {"training_state.pt", "logs"}
    assert torch.load(cut / "training_state.pt", weights_only=True)["step"] == 3
    monkeypatch.setattr(loop, "learning_rate", rate)
    pretrained(cut, model=model)
    for name in ("model.safetensors", "config.json", "statistics.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert not (cut / "training_state.pt").exists()
    assert list((cut / "logs").glob("events*"))


def test_lora_resumes_bit_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = pretrained(tmp_path / "start")
    settings = FinetuneSettings(mode="lora", optimisation=FAST)
    demonstrations = toy_demonstrations(seed=5, embodiment="New")
    finetune(start, demonstrations, tmp_path / "whole", settings, progress=False)
    decay = loop.ema_decay

    def fail_at_four(step: int, settings: Optimisation) -> float:
        if step == 3:
            raise Interrupted
        return decay(step, settings)

    monkeypatch.setattr(loop, "ema_decay", fail_at_four)
    with pytest.raises(Interrupted):
        finetune(start, demonstrations, tmp_path / "cut", settings, progress=False)
    monkeypatch.setattr(loop, "ema_decay", decay)
    finetune(start, demonstrations, tmp_path / "cut", settings, progress=False)
    assert not changed(tmp_path / "whole", tmp_path / "cut")


def other_scaling(start: Path) -> None:
    statistics = read_policy(start).statistics
    shifted = replace(statistics.proprio, offset=statistics.proprio.offset + 1)
    write_statistics(start / "statistics.json", replace(statistics, proprio=shifted))


def executing_less(start: Path) -> None:
    table = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps({**table, "execute": 1}))


@pytest.mark.parametrize(
    ("differs", "change"),
    [
        ("statistics", other_scaling),
        ("configuration", executing_less),
        ("demonstrations", None),
        ("settings", None),
    ],
)
def test_a_fine_tuning_is_resumed_only_with_what_it_began_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    differs: str,
    change: Callable[[Path], None] | None,
) -> None:
    start = pretrained(tmp_path / "start")
    settings = FinetuneSettings(mode="head", optimisation=FAST)
    demonstrations = toy_demonstrations(seed=5, embodiment="New")

    def stop(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr("octo_bench.training.finetune.write_policy", stop)
        finetune(start, demonstrations, tmp_path / "out", settings, progress=False)
    if change is not None:
        change(start)
    elif differs == "settings":
        settings = replace(settings, seed=1)
    else:
        for episode in demonstrations.episodes:
            episode.actions[:, 0] *= 0.5  # the hash of the file is as it was
    with pytest.raises(BadFile, match=f"a run that differs in: {differs}; delete it"):
        finetune(start, demonstrations, tmp_path / "out", settings, progress=False)


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    state = out / "training_state.pt"
    torch.save({"fingerprints": {"recipe": "another"}}, state)
    with pytest.raises(BadFile, match="a run that differs in: demonstrations, recipe; delete it"):
        pretrained(out)
    state.write_bytes(b"cut off")
    with pytest.raises(BadFile, match=r"training_state\.pt: cannot be read"):
        pretrained(out)


def test_threads_are_set_and_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    rate = loop.learning_rate

    def note(step: int, settings: Optimisation) -> float:
        seen.append(torch.get_num_threads())
        return rate(step, settings)

    monkeypatch.setattr(loop, "learning_rate", note)
    before = torch.get_num_threads()
    pretrained(tmp_path, optimisation=replace(FAST, threads=2))
    assert set(seen) == {2}
    assert torch.get_num_threads() == before


def test_learning_rate_warms_up_and_falls() -> None:
    settings = Optimisation(steps=100, warmup=10, learning_rate=1.0)
    rates = [loop.learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.001


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("head", {"head"}),
        ("lora", {"head", "transformer"}),
        (
            "full",
            {"head", "transformer", "vision_primary", "language", "proprio", "task", "readout"},
        ),
    ],
)
def test_mode_trains_what_it_says(tmp_path: Path, mode: str, expected: set[str]) -> None:
    start = pretrained(tmp_path / "start")
    out = tmp_path / "tuned"
    demonstrations = toy_demonstrations(seed=7, embodiment="New")
    settings = FinetuneSettings(mode=mode, optimisation=FAST)
    summary = finetune(start, demonstrations, out, settings, progress=False)
    assert summary.steps == 6
    assert summary.seconds > 0
    assert changed(start, out) == expected
    assert (out / "adapter" / "adapter_model.safetensors").exists() == (mode == "lora")
    if mode == "lora":
        old, new = weights(start), weights(out)
        moved = {n for n in old if not torch.equal(old[n], new[n]) and "head" not in n}
        assert {n.split(".")[-2] for n in moved} == {"q_proj", "v_proj"}
    read = read_policy(out)
    assert read.config == read_policy(start).config
    assert "New" in read.statistics.actions


def test_from_scratch_keeps_nothing_but_the_network(tmp_path: Path) -> None:
    start = pretrained(tmp_path / "start")
    settings = FinetuneSettings(seed=3, optimisation=replace(FAST, steps=1, learning_rate=1e-9))
    demonstrations = toy_demonstrations()
    finetune(start, demonstrations, tmp_path / "out", settings, from_scratch=True, progress=False)
    fresh = Path(tmp_path / "fresh")
    pretrained(fresh, seed=3, optimisation=replace(FAST, steps=1, learning_rate=1e-9))
    for name, tensor in weights(tmp_path / "out").items():
        torch.testing.assert_close(tensor, weights(fresh)[name], atol=1e-6, rtol=0)


def test_from_scratch_scales_by_its_own_demonstrations(tmp_path: Path) -> None:
    start = pretrained(tmp_path / "start")
    demonstrations = toy_demonstrations(seed=9)
    for episode in demonstrations.episodes:
        episode.actions[:, :6] *= 0.3
        episode.proprio[:] += 2
    settings = FinetuneSettings(optimisation=replace(FAST, steps=1))
    finetune(start, demonstrations, tmp_path / "out", settings, from_scratch=True, progress=False)
    own = statistics_of([demonstrations], "bounds")
    assert read_policy(tmp_path / "out").statistics.table() == own.table()
    assert own.table() != read_policy(start).statistics.table()


def test_recomputed_statistics_are_the_demonstrations_own(tmp_path: Path) -> None:
    start = pretrained(tmp_path / "start")
    demonstrations = toy_demonstrations(seed=9, embodiment="New")
    settings = FinetuneSettings(normalisation="recompute", optimisation=FAST)
    finetune(start, demonstrations, tmp_path / "own", settings, progress=False)
    own = read_policy(tmp_path / "own").statistics.actions_of("New")
    expected = statistics_of([demonstrations], "bounds").actions_of("New")
    assert own.scale.tolist() == expected.scale.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_size": 14}, r"'model\.action_size' = 14, but octo_bench/Follow-Toy-v\d has 7"),
        ({"image_size": 48}, r"'model\.image_size' = 48, but octo_bench/Follow-Toy-v\d has 24"),
        ({"proprio": (0, 11)}, r"'model\.proprio' reads more than the 11 entries"),
    ],
)
def test_a_network_for_other_data_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BadRecipe, match=message):
        pretrained(tmp_path, model=tiny_config(**changes))


def test_images_of_another_size_are_refused_by_fine_tuning(tmp_path: Path) -> None:
    start = pretrained(tmp_path / "start")
    demonstrations = toy_demonstrations()
    larger = [
        replace(
            episode,
            image_primary=episode.image_primary.repeat(2, 1).repeat(2, 2),
            image_wrist=episode.image_wrist.repeat(2, 1).repeat(2, 2),
        )
        for episode in demonstrations.episodes
    ]
    demonstrations = replace(demonstrations, episodes=tuple(larger))
    settings = FinetuneSettings(optimisation=FAST)
    with pytest.raises(BadCheckpoint, match=r"sees images of 24 px, and the demonst.* have 48 px"):
        finetune(start, demonstrations, tmp_path / "out", settings, progress=False)


def test_augmentation_keeps_range_and_is_off_at_zero() -> None:
    images = torch.randint(0, 256, (5, SIZE, SIZE, 3), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    off = augment(images, Augmentation(0, 0, 0, 0), generator)
    torch.testing.assert_close(off, images / 127.5 - 1)
    strong = augment(images, Augmentation(2, 0.5, 0.5, 0.5), generator)
    assert strong.abs().max() <= 1


def test_shift_moves_by_whole_pixels() -> None:
    images = torch.randint(0, 256, (40, SIZE, SIZE, 3), dtype=torch.uint8)
    moved = augment(images, Augmentation(1, 0, 0, 0), torch.Generator().manual_seed(0))
    shifted = ((moved + 1) * 127.5).round().to(torch.uint8)
    seen = set()
    for before, after in zip(images, shifted, strict=True):
        moves = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if torch.equal(before.roll((down, right), (0, 1))[1:-1, 1:-1], after[1:-1, 1:-1])
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 9


RECIPE = """
execute = 4
[[data]]
env = "octo_bench/Lift-IIWA-v1"
demos = 60
first_seed = 1
[model]
width = 64
[model.language]
pretrained = ""
[optimisation]
steps = 10
"""


def test_recipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    read = read_recipe(path)
    assert read.data == (Data("octo_bench/Lift-IIWA-v1", 60, 1),)
    assert read.model.width == 64
    assert read.optimisation.batch_size == 64


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 64", "widht = 64", r"unknown key 'model\.widht'.*did you mean 'width'"),
        ("steps = 10", "batch_size = 2", r"the key 'optimisation\.steps' is missing"),
        ("steps = 10", "steps = 0", "'steps' must lie between 1 and"),
        ("demos = 60", 'demos = "all"', r"'data\[0\]\.demos' must be int"),
        ("execute = 4", "execute = 9", "'execute' must lie between 1"),
        ("width = 64", "window = 9", "takes 38 tokens"),
        ("execute = 4", "execute = ", "cannot be read as TOML"),
    ],
)
def test_bad_recipe_names_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(BadRecipe, match=message) as error:
        read_recipe(path)
    assert str(path) in str(error.value)


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(RECIPE)
    changed = tmp_path / "changed.toml"
    changed.write_text('base = "base.toml"\n[model]\nhead = "categorical"\n')
    base, read = read_recipe(tmp_path / "base.toml"), read_recipe(changed)
    assert read == replace(base, model=replace(base.model, head="categorical"))
    again = tmp_path / "again.toml"
    again.write_text('base = "changed.toml"\nexecute = 2\n')
    assert read_recipe(again) == replace(read, execute=2)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"r.toml"', "based on itself"),
        ('"none.toml"', r"none\.toml: no such file"),
        ("7", "'base' must be the path"),
    ],
)
def test_a_bad_base_is_named(tmp_path: Path, base: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f"base = {base}\n{RECIPE}")
    with pytest.raises(BadRecipe, match=message):
        read_recipe(path)


@pytest.mark.parametrize("scaling", ["shared", "embodiment"])
def test_an_arm_that_was_never_seen_is_scaled_like_the_others_only_if_they_share(
    tmp_path: Path, scaling: str
) -> None:
    datasets = [toy_demonstrations(seed=1), toy_demonstrations(seed=2, embodiment="B")]
    for episode in datasets[1].episodes:
        episode.actions[:, :6] *= 0.5
    declared = recipe(
        data=(Data("octo_bench/Follow-Toy-v1", 4, 0), Data("octo_bench/Follow-B-v1", 4, 0)),
        scaling=scaling,
    )
    pretrain_on(declared, datasets, tmp_path, recipe=Path("r.toml"), progress=False)
    statistics = read_policy(tmp_path).statistics
    alike = [
        np.array_equal(statistics.actions_of(seen).scale, statistics.actions_of("Unseen").scale)
        for seen in ("Toy", "B")
    ]
    assert all(alike) == (scaling == "shared")


def test_range_of_the_head_is_checked_against_the_data(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"model\.diffusion\.action_range"):
        pretrained(tmp_path, normalisation="mean_std")


def test_shipped_recipes_are_valid_and_differ_in_the_head_only() -> None:
    folder = Path(__file__).parents[2] / "policies"
    diffusion = read_recipe(folder / "octo-tiny" / "recipe.toml")
    categorical = read_recipe(folder / "octo-tiny-categorical" / "recipe.toml")
    assert replace(categorical.model, head="diffusion") == diffusion.model
    assert categorical.data == diffusion.data
    assert not any("Panda" in data.env for data in diffusion.data)


def test_full_disk_leaves_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadFile, match="no space left"):
        pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


def test_config_file_holds_the_contract(tmp_path: Path) -> None:
    table = json.loads((pretrained(tmp_path) / "config.json").read_text())
    assert table["format"] == 1
    assert table["execute"] == 2
    assert table["model"]["chunk"] == 4
    assert (tmp_path / "README.md").read_text().startswith(f"# {tmp_path.name}")
