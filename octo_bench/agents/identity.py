"""What identifies a policy: its weights, configuration and statistics, whatever it is called."""

from __future__ import annotations

from octo_bench.agents.loading import BASELINES
from octo_bench.checkpoints.config import find_policy, read_config
from octo_bench.files import sha256_file, sha256_json


def policy_sha256(policy: str) -> dict[str, str]:
    """The files of a policy folder and their hashes; just the name for a built-in agent."""
    if policy in BASELINES:
        return {"agent": policy}
    folder = find_policy(policy)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in (".json", ".safetensors") and file.is_file()
    )
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}


def policy_fingerprint(policy: str) -> str:
    """Hex SHA-256 of all that `policy_sha256` lists; the name of a built-in agent."""
    return policy if policy in BASELINES else sha256_json(policy_sha256(policy))


def policy_head(policy: str) -> str:
    """The action head of a policy, "" for a built-in agent."""
    return "" if policy in BASELINES else read_config(find_policy(policy)).model.head
