"""Packages: `octo_bench`, with the clone's data inside the wheel: envs, policies, tables."""

from setuptools import find_packages, setup

_DATA = {
    "octo_bench.envs": "envs",
    "octo_bench.policies": "policies",
    "octo_bench.results.demonstrators": "results/demonstrators",
    "octo_bench.results.reference": "results/reference",
}

setup(
    # The pytest plugin is a module of its own: pytest loads it in every project, and must not have
    # to load octo_bench for it.
    py_modules=["pytest_octo_bench"],
    packages=[*find_packages(include=["octo_bench*"]), *_DATA],
    package_dir=_DATA,
    package_data={
        "octo_bench.reports": ["templates/*"],
        **{package: ["**/*"] for package in _DATA},
    },
)
