"""Packages: `octo_bench`, with the clone's `envs/` and `policies/` as data inside the wheel."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["octo_bench*"]), "octo_bench.envs", "octo_bench.policies"],
    package_dir={"octo_bench.envs": "envs", "octo_bench.policies": "policies"},
    package_data={"octo_bench.envs": ["**/*"], "octo_bench.policies": ["**/*"]},
)
