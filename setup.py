"""Packages: `octo_bench`, with the clone's data inside the wheel: envs, policies, studies.

And the compiled core of the renderer, a plain library that ctypes loads.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, find_packages, setup

# Of the larger studies only the declarations, for `finetune --settings` and `reproduce --out`.
_WHOLE = ("demonstrators", "quick", "quick-scratch", "reference")
_STUDIES = sorted(file.parent.name for file in Path("results").glob("*/study.toml"))

_FOLDERS = {
    "octo_bench.envs": "envs",
    "octo_bench.policies": "policies",
    **{f"octo_bench.results.{name}": f"results/{name}" for name in {*_WHOLE, *_STUDIES}},
}


def _data(folder: str) -> list[str]:
    name = Path(folder).name
    return ["**/*.toml"] if name in _STUDIES and name not in _WHOLE else ["**/*"]


_RASTERIZER = Path("octo_bench/rendering/fast/rasterizer.c")

setup(
    ext_modules=[
        Extension(
            "octo_bench.rendering.fast._rasterizer",
            [str(_RASTERIZER)],
            # No -march and no joined operations: every processor gives the same frames.
            extra_compile_args=["-O3", "-fno-fast-math", "-ffp-contract=off", "-fno-math-errno"],
            define_macros=[
                (
                    "OCTO_BENCH_SOURCE",
                    f'"{hashlib.sha256(_RASTERIZER.read_bytes()).hexdigest()}"',
                )
            ],
        )
    ],
    # The pytest plugin is a module of its own: pytest loads it in every project, and must not have
    # to load octo_bench for it.
    py_modules=["pytest_octo_bench"],
    packages=[*find_packages(include=["octo_bench*"]), *_FOLDERS],
    package_dir=_FOLDERS,
    package_data={
        "octo_bench.charts": ["templates/*"],
        "octo_bench.page": ["templates/*"],
        "octo_bench.rendering.fast": ["rasterizer.c"],
        **{package: _data(folder) for package, folder in _FOLDERS.items()},
    },
    # What runs in the clone leaves there.
    exclude_package_data={
        package: ["cells/**/*", "demonstrations/**/*", "runs/**/*", "**/*.hdf5", "**/.*"]
        for package in _FOLDERS
        if package.startswith("octo_bench.results.")
    },
)
