"""How much a policy's actions vary on the same observation.

Both policies get the same observations: those that the scripted expert sees in the first of the
compared episodes, so that neither policy chose them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from octo_bench.agents.expert import ExpertAgent
from octo_bench.agents.inference import described
from octo_bench.agents.protocol import Agent
from octo_bench.agents.sources import load_agent, source_of
from octo_bench.comparison.matching import EpisodeSet, Pair, match
from octo_bench.comparison.regression import Place, study_seed_of
from octo_bench.comparison.two_policies import Comparison, Measure, measure
from octo_bench.definitions.environments import environment
from octo_bench.errors import BadInference
from octo_bench.records.record import EpisodeRecord
from octo_bench.rollouts.episodes import SLOTS, use_one_thread
from octo_bench.rollouts.visited import Visited, ask, visit

ASKS = 16
"""Queries per policy and observation, each with other noise."""
NAME = "dispersion of the commanded translation"


def with_dispersion(
    comparison: Comparison, a: EpisodeSet, b: EpisodeSet, asks: int = ASKS
) -> Comparison:
    """The comparison of `a` and `b` with the dispersion of their actions in each environment.

    The dispersion at an observation is the root of the summed variances of the three entries of
    the translation, a mean over the actions that are executed; in action units, 1 is 5 cm. An
    episode counts once, with the mean over its observations.

    Args:
        comparison: of `a` and `b`.
        a, b: episodes of one policy each, which name it.
        asks: queries per policy and observation.

    Raises:
        BadInference: for a policy that is not named, or does not look at observations.
        OctoBenchError: when a policy or an environment is not available.
    """
    use_one_thread()
    by_place: dict[Place, list[Pair]] = {}
    for pair in match(a, b).pairs:
        by_place.setdefault(Place.of(pair[0]), []).append(pair)
    found: dict[str, Measure] = {}
    for place, pairs in by_place.items():
        agents = [_agent(records[0]) for records in zip(*pairs, strict=True)]
        seen, _, _ = visit(
            ExpertAgent(environment(place.env_id).action_size),
            place.env_id,
            [first.episode for first, _ in pairs][:SLOTS],
            study_seed_of(a),
            suite=place.suite,
            level=place.level,
            window=max(agent.window for agent in agents),
            images=any(agent.wants_images for agent in agents),
            goals=any(agent.wants_goal for agent in agents),
        )
        found[str(place)] = measure(NAME, *(dispersion(agent, seen, asks) for agent in agents))
    places = tuple(
        replace(each, measures=(*each.measures, found[each.name])) for each in comparison.places
    )
    return replace(comparison, places=places)


def dispersion(agent: Agent, seen: Visited, asks: int) -> Sequence[float]:
    """How much an agent's translation varies, a mean for each of the episodes that were seen."""
    generator = np.random.default_rng(0)
    seen = seen.of_last(agent.window)
    answers = []
    for _ in range(asks):
        noise = generator.standard_normal((len(seen), *agent.noise_shape), dtype=np.float32)
        answers.append(ask(agent, seen, noise)[:, : agent.execute, :3])
    variances = np.var(answers, axis=0, ddof=1).sum(axis=-1)
    spread = np.sqrt(variances).mean(axis=-1)
    return [float(spread[seen.episodes == each].mean()) for each in np.unique(seen.episodes)]


def _agent(record: EpisodeRecord) -> Agent:
    """The agent whose episode it is, without what executes its chunks."""
    if record.demos:
        raise BadInference(
            f"{record.policy} after {record.demos} demonstrations cannot be loaded by its "
            "records, which name only the policy that it started from"
        )
    if source_of(record.policy).privileged:
        raise BadInference("the scripted expert reads the simulation, not observations")
    inference = described(record.inference)
    if inference.ensemble:
        raise BadInference("an ensemble's actions depend on earlier queries")
    return load_agent(record.policy, environment(record.env_id), inference)
