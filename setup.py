"""Packages: `octo_bench`, with the clone's data inside the wheel: envs, policies, one table."""

from setuptools import find_packages, setup

_DATA = {
    "octo_bench.envs": "envs",
    "octo_bench.policies": "policies",
    "octo_bench.results.demonstrators": "results/demonstrators",
}

setup(
    packages=[*find_packages(include=["octo_bench*"]), *_DATA],
    package_dir=_DATA,
    package_data={package: ["**/*"] for package in _DATA},
)
