"""Kinds of policies: the seam through which everything that a user calls a policy is resolved.

A new kind is one file with a `PolicySource` and one line in `POLICIES`; another package adds its
own under the entry-point group `octo_bench.policies`. `check_source` says whether it conforms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.definitions.environments import IMAGE_SIZE
from octo_bench.errors import BadInference
from octo_bench.files import sha256_json
from octo_bench.registry import Registry

if TYPE_CHECKING:
    from octo_bench.agents.protocol import Agent
    from octo_bench.definitions.environments import Environment


@runtime_checkable
class PolicySource(Protocol):
    """One kind of policy.

    Attributes:
        trainable: it is a policy folder, with a network that can be fine-tuned and timed.
        privileged: it reads the simulation itself, and cannot answer stored observations.
    """

    trainable: bool
    privileged: bool

    def check(self, policy: str) -> None:
        """Find the policy, without loading it.

        Raises:
            UnknownName, BadCheckpoint: when it is not there.
        """

    def files(self, policy: str) -> dict[str, str]:
        """What identifies the policy, by name: files of weights and configuration and their
        hex SHA-256, or its name for one that has no files.

        Raises:
            UnknownName, BadCheckpoint: when it is not there.
        """

    def head(self, policy: str) -> str:
        """Its action head, "" for one that has none.

        Raises:
            UnknownName, BadCheckpoint: when it is not there, or is not readable.
        """

    def load(
        self, policy: str, declared: Environment, inference: Inference, image_size: int
    ) -> Agent:
        """See `load_agent`."""


FOLDER = "folder"
"""The kind of what no other kind takes: a policy folder, or a Hub id."""

POLICIES: Registry[PolicySource] = Registry(
    "kind of policy",
    "octo_bench.policies",
    {
        "random": "octo_bench.agents.random:SOURCE",
        "expert": "octo_bench.agents.expert:SOURCE",
        FOLDER: "octo_bench.agents.folder:SOURCE",
    },
)
"""A policy is of the kind that it names, as `random`, or before a colon, as `kind:whatever`."""


def source_of(policy: str) -> PolicySource:
    """The kind of a policy: nothing is said of whether there is such a policy."""
    kind = policy.partition(":")[0]
    return POLICIES[kind if kind in POLICIES else FOLDER]


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
    return source_of(policy).load(policy, declared, inference, image_size)


def policy_sha256(policy: str) -> dict[str, str]:
    """The files of a policy folder and their hashes; just the name for a policy without files."""
    return source_of(policy).files(policy)


def policy_fingerprint(policy: str) -> str:
    """What records identify a policy by: hex SHA-256 of all that `policy_sha256` lists; the name
    of a policy without files."""
    files = policy_sha256(policy)
    return files["agent"] if files.keys() == {"agent"} else sha256_json(files)


def policy_head(policy: str) -> str:
    """The action head of a policy, "" for one that has none."""
    return source_of(policy).head(policy)


def require_defaults(policy: str, inference: Inference) -> None:
    """Refuse inference options, for a policy that has none.

    Raises:
        BadInference: for anything but the defaults.
    """
    if inference != DEFAULT:
        raise BadInference(f"{policy} has no inference options; leave out {inference.description}")


def check_source(source: PolicySource, policy: str, declared: Environment) -> None:
    """Whether a kind of policy conforms: for its author's own tests.

    Args:
        source: the kind.
        policy: one that there is.
        declared: an environment that it acts in.

    Raises:
        TypeError: names what is missing, or what is not as declared.
    """
    from octo_bench.agents.protocol import Agent

    if not isinstance(source, PolicySource):
        raise TypeError(f"{source!r} lacks a method or an attribute of PolicySource")
    source.check(policy)
    files = source.files(policy)
    if not files or not all(isinstance(each, str) for pair in files.items() for each in pair):
        raise TypeError("`files` is not a table of texts with at least one entry")
    if files != source.files(policy):
        raise TypeError("`files` differs from call to call")
    if not isinstance(source.head(policy), str):
        raise TypeError("`head` is not a text")
    agent = source.load(policy, declared, DEFAULT, IMAGE_SIZE)
    names = [name for name in Agent.__annotations__ if not hasattr(agent, name)]
    if names or not callable(getattr(agent, "act", None)):
        raise TypeError(f"the agent lacks {', '.join(names) or 'act'}")
