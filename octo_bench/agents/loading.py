"""From what a user calls a policy to an agent."""

from __future__ import annotations

# On top, not where it is used: a process that has drawn a frame crashes when it then loads Triton,
# which the network's libraries bring (both it and Mesa's renderer contain LLVM).
from octo_bench.agents.octo import load_octo_agent
from octo_bench.agents.protocol import Agent
from octo_bench.training.policy import find_policy

BASELINES = ("random", "expert")


def load_agent(policy: str, embodiment: str | None = None) -> Agent:
    """The agent of `policy`: "random", "expert", a name under `policies/`, a folder or a Hub id.

    Raises:
        UnknownName: when nothing goes by that name.
        BadCheckpoint: for a policy folder that cannot be used.
    """
    if policy == "random":
        from octo_bench.agents.random import RandomAgent

        return RandomAgent()
    if policy == "expert":
        from octo_bench.agents.expert import ExpertAgent

        return ExpertAgent()
    return load_octo_agent(find_policy(policy), embodiment=embodiment)
