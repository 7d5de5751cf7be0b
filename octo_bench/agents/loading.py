"""From what a user calls a policy to an agent."""

from __future__ import annotations

from octo_bench.agents.protocol import Agent

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
    from octo_bench.agents.octo import OctoAgent
    from octo_bench.training.policy import find_policy, read_policy

    return OctoAgent(read_policy(find_policy(policy)), embodiment=embodiment)
