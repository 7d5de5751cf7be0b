"""Kinds of policies: the shipped ones conform, and a new one is one file and one line."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from octo_bench.agents import sources
from octo_bench.agents.inference import Inference
from octo_bench.agents.random import RandomAgent, RandomSource
from octo_bench.agents.sources import (
    FOLDER,
    POLICIES,
    check_source,
    load_agent,
    policy_fingerprint,
    source_of,
)
from octo_bench.definitions.environments import Environment, environment
from octo_bench.errors import BadInference, UnknownName

LIFT = environment("octo_bench/Lift-Panda-v1")


class StillSource:
    """A kind of policy as an outsider writes it: `still:` and any word."""

    trainable = False
    privileged = False

    def check(self, policy: str) -> None:
        """Every word will do."""

    def files(self, policy: str) -> dict[str, str]:
        return {"agent": policy}

    def head(self, policy: str) -> str:
        return ""

    def load(
        self, policy: str, declared: Environment, inference: Inference, image_size: int
    ) -> RandomAgent:
        return RandomAgent(declared.action_size)


STILL = StillSource()


@pytest.mark.parametrize(
    ("kind", "policy"), [("random", "random"), ("expert", "expert"), (FOLDER, "octo-tiny")]
)
def test_shipped_kinds_conform(kind: str, policy: str) -> None:
    assert source_of(policy) is POLICIES[kind]
    check_source(POLICIES[kind], policy, LIFT)


def test_a_kind_of_another_package_is_found_and_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    added = importlib.metadata.EntryPoint("still", f"{__name__}:STILL", POLICIES.group)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (added,))
    again = type(POLICIES)(
        "kind of policy", POLICIES.group, {FOLDER: "octo_bench.agents.folder:SOURCE"}
    )
    monkeypatch.setattr(sources, "POLICIES", again)
    assert source_of("still:here") is STILL
    assert policy_fingerprint("still:here") == "still:here"
    assert load_agent("still:here", LIFT).noise_shape == (1, LIFT.action_size)
    check_source(STILL, "still:here", LIFT)


def test_a_kind_that_lacks_something_is_named() -> None:
    with pytest.raises(TypeError, match="lacks"):
        check_source(object(), "x", LIFT)  # type: ignore[arg-type]  # what is tested

    class Changing(RandomSource):
        def files(self, policy: str) -> dict[str, str]:
            return {"now": str(np.random.default_rng().random())}

    with pytest.raises(TypeError, match="differs"):
        check_source(Changing(), "random", LIFT)


def test_policies_without_options_refuse_them_and_unknown_ones_are_named() -> None:
    with pytest.raises(BadInference, match="random has no inference options"):
        load_agent("random", LIFT, Inference(execute=2))
    with pytest.raises(UnknownName, match="octo-tinny"):
        source_of("octo-tinny").check("octo-tinny")


def test_no_module_but_the_registry_names_a_kind() -> None:
    """Names of kinds stand in the registry, and where a command has a default."""
    package = Path(sources.__file__).parents[1]
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if ('== "expert"' in line or '== "random"' in line or "BASELINES" in line)
        and not line.lstrip().startswith("BASELINE_")
        and "BASELINE_RATES" not in line
    ]
    assert found == []
