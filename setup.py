"""Packages: `octo_bench`, with the clone's data inside the wheel: envs, policies, tables."""

from setuptools import find_packages, setup

_DATA = {
    "octo_bench.envs": "envs",
    "octo_bench.policies": "policies",
    "octo_bench.results.demonstrators": "results/demonstrators",
    "octo_bench.results.reference": "results/reference",
}

setup(
    packages=[*find_packages(include=["octo_bench*"]), *_DATA],
    package_dir=_DATA,
    package_data={
        "octo_bench.reports": ["templates/*"],
        **{package: ["**/*"] for package in _DATA},
    },
)
