"""Loading an agent by the name that a user gives a policy."""

from __future__ import annotations

import os
import shutil

from octo_bench.agents.execution import with_execution
from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.protocol import Agent
from octo_bench.definitions.environments import IMAGE_SIZE, Environment
from octo_bench.errors import BadInference, MissingDependency, UnsupportedEnvironment

BASELINES = ("random", "expert")


def load_agent(
    policy: str,
    declared: Environment,
    inference: Inference = DEFAULT,
    *,
    image_size: int = IMAGE_SIZE,
) -> Agent:
    """The agent of `policy` for an environment.

    Args:
        policy: "random", "expert", a name under `policies/`, a folder or a Hub id.
        declared: its environment; the action scaling of its arm is used if the policy has one.
        inference: the inference options.
        image_size: of the images that it will see, pixels.

    Raises:
        UnknownName: for an unknown name.
        BadCheckpoint: for a policy folder that cannot be used, or whose policy reads another
            proprioception.
        BadInference: for options that the policy does not have.
        MissingDependency: when the network is to be compiled and there is no compiler.
        UnsupportedEnvironment: for a policy of another action size, or that sees images of another
            size.
    """
    if policy in BASELINES:
        return _baseline(policy, declared, inference)
    from octo_bench.checkpoints.config import find_policy, read_config
    from octo_bench.checkpoints.folder import read_policy, require_proprio

    folder = find_policy(policy)
    config = read_config(folder)
    model = config.model
    inference.require_fits(
        policy,
        chunk=model.chunk,
        diffusion_steps=model.diffusion.steps if model.head == "diffusion" else None,
    )
    if inference.compiled:
        _require_compiler()
    from octo_bench.agents.octo import OctoAgent
    from octo_bench.agents.octo_1_5 import METRIC_ENTRIES, Octo15Agent

    read = read_policy(folder)
    kind = Octo15Agent if config.architecture == "octo-1.5" else OctoAgent
    agent = kind(read, inference, declared.embodiment.name)
    if agent.action_size != declared.action_size:
        raise UnsupportedEnvironment(
            f"{policy} has actions of {agent.action_size} entries, {declared.id} takes "
            f"{declared.action_size}; choose an environment of the same action size (`octo-bench "
            "envs`)"
        )
    if config.actions == "metric" and agent.action_size != METRIC_ENTRIES:
        raise UnsupportedEnvironment(
            f"the {agent.action_size} action entries of {policy} mean what its data set says, not "
            f"what {declared.id} takes; fine-tune it on demonstrations of that environment"
        )
    require_proprio(read, declared.proprio_size)
    if isinstance(agent, OctoAgent):
        agent.require_images(image_size)
    return with_execution(agent, inference)


def _baseline(policy: str, declared: Environment, inference: Inference) -> Agent:
    if inference != DEFAULT:
        raise BadInference(f"{policy} has no inference options; leave out {inference.description}")
    if policy == "random":
        from octo_bench.agents.random import RandomAgent

        return RandomAgent(declared.action_size)
    from octo_bench.agents.expert import ExpertAgent

    return ExpertAgent(declared.action_size)


def _require_compiler() -> None:
    """Find the compiler that `torch.compile` will call, at the first query of the policy."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise MissingDependency(
            f"compiling a network needs the C++ compiler '{compiler}'; install the system package "
            "g++, or name another one in the environment variable CXX"
        )
