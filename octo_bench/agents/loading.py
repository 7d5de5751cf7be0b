"""From what a user calls a policy to an agent."""

from __future__ import annotations

# On top, not where it is used: a process that has drawn a frame crashes when it then loads Triton,
# which the network's libraries bring (both it and Mesa's renderer contain LLVM).
from octo_bench.agents.octo import load_octo_agent
from octo_bench.agents.protocol import Agent
from octo_bench.definitions import Environment
from octo_bench.errors import UnsupportedEnvironment
from octo_bench.training.policy import find_policy

BASELINES = ("random", "expert")


def load_agent(policy: str, declared: Environment) -> Agent:
    """The agent of `policy` for an environment.

    Args:
        policy: "random", "expert", a name under `policies/`, a folder or a Hub id.
        declared: what it will act in; its arm's action scaling is used if the policy has one.

    Raises:
        UnknownName: when nothing goes by that name.
        BadCheckpoint: for a policy folder that cannot be used.
        UnsupportedEnvironment: for a policy of another action size.
    """
    if policy == "random":
        from octo_bench.agents.random import RandomAgent

        return RandomAgent(declared.action_size)
    if policy == "expert":
        from octo_bench.agents.expert import ExpertAgent

        return ExpertAgent(declared.action_size)
    agent = load_octo_agent(find_policy(policy), embodiment=declared.embodiment.name)
    if agent.action_size != declared.action_size:
        raise UnsupportedEnvironment(
            f"{policy} acts with {agent.action_size} entries and {declared.id} takes "
            f"{declared.action_size}; choose an environment with as many (see `octo-bench envs`)"
        )
    return agent
