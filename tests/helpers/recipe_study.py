"""A study of two pre-training recipes, declared in a folder."""

from __future__ import annotations

from pathlib import Path

from octo_bench.studies.artifacts import Run
from octo_bench.studies.study import Study, read_study

DECLARATION = """
title = "Three arms or one"
seed = 0
episodes = 2

[[policies]]
recipe = "recipes/three_arms.toml"
head = "diffusion"
name = "three arms"

[[policies]]
recipe = "recipes/one_arm.toml"
head = "diffusion"

[[policies]]
policy = "octo-tiny"
head = "diffusion"

[[targets]]
env = "Lift-Panda"
demos = [0, 2]

[demonstrations]
count = 2
first_seed = 1000

[finetune]
steps = { 2 = 4 }
"""

# Strides as large as they go, for speed; 8 channels would meet a bug of oneDNN, see
# tests/studies/test_reproduction.py.
THREE_ARMS = """
execute = 4

[[data]]
env = "octo_bench/Lift-IIWA-v1"
demos = 1
first_seed = 2_000_000

[[data]]
env = "octo_bench/Lift-UR5e-v1"
demos = 2
first_seed = 3_000_000
suite = "camera"
level = 2

[model]
width = 32
window = 1
image_size = 96
proprio = [0, 1, 9]
head = "diffusion"
vision = { blocks = [1, 1], widths = [16, 16], strides = [2, 2], stem_kernel = 3, \
stem_stride = 4, stem_maxpool = false, groups = 4, pooling = "flatten" }
language = { pretrained = "", layers = 1, width = 16, heads = 2, feed_forward = 32 }
transformer = { layers = 2, heads = 2, feed_forward = 64 }
diffusion = { down_dims = [16, 16], blocks = 1, step_embedding = 16, groups = 4, condition = 32 }

[optimisation]
steps = 6
batch_size = 4
warmup = 2
noise_draws = 2
"""

ONE_ARM = """
base = "three_arms.toml"
data = [{ env = "octo_bench/Lift-IIWA-v1", demos = 2, first_seed = 2_000_000, weight = 2.0 }]
"""

RUN = Run(workers=2, wall_seconds=10.0)


def declare(
    folder: Path, study: str = DECLARATION, three_arms: str = THREE_ARMS, one_arm: str = ONE_ARM
) -> Study:
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / "three_arms.toml").write_text(three_arms)
    (folder / "recipes" / "one_arm.toml").write_text(one_arm)
    (folder / "study.toml").write_text(study)
    return read_study(folder / "study.toml")
