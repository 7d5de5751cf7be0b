"""Policy folders as a kind of policy: shipped ones by name, folders, and Hub ids."""

from __future__ import annotations

import os
import shutil

from octo_bench.agents.execution import with_execution
from octo_bench.agents.inference import Inference
from octo_bench.agents.protocol import Agent
from octo_bench.definitions.environments import Environment
from octo_bench.errors import MissingDependency, UnsupportedEnvironment
from octo_bench.files import sha256_file


class FolderSource:
    """See `PolicySource`."""

    trainable = True
    privileged = False

    def check(self, policy: str) -> None:
        """Find the folder."""
        from octo_bench.checkpoints.config import find_policy

        find_policy(policy)

    def files(self, policy: str) -> dict[str, str]:
        """Weights, configuration and statistics, whatever else is in the folder."""
        from octo_bench.checkpoints.config import find_policy

        folder = find_policy(policy)
        files = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix in (".json", ".safetensors") and file.is_file()
        )
        return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}

    def head(self, policy: str) -> str:
        """As its configuration says."""
        from octo_bench.checkpoints.config import find_policy, read_config

        return read_config(find_policy(policy)).model.head

    def load(
        self, policy: str, declared: Environment, inference: Inference, image_size: int
    ) -> Agent:
        """See `load_agent`."""
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
                f"{declared.action_size}; choose an environment of the same action size "
                "(`octo-bench envs`)"
            )
        if config.actions == "metric" and agent.action_size != METRIC_ENTRIES:
            raise UnsupportedEnvironment(
                f"the {agent.action_size} action entries of {policy} mean what its data set says, "
                f"not what {declared.id} takes; fine-tune it on demonstrations of that environment"
            )
        require_proprio(read, declared.proprio_size)
        if isinstance(agent, OctoAgent):
            agent.require_images(image_size)
        return with_execution(agent, inference)


SOURCE = FolderSource()


def _require_compiler() -> None:
    """Find the compiler that `torch.compile` will call, at the first query of the policy."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise MissingDependency(
            f"compiling a network needs the C++ compiler '{compiler}'; install the system package "
            "g++, or name another one in the environment variable CXX"
        )
