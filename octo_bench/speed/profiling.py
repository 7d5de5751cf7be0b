"""Where the time of one call goes, by part of the network."""

from __future__ import annotations

import numpy as np

from octo_bench.models.octo_1_5.network import Octo15
from octo_bench.speed.asked_policy import AskedPolicy, Query
from octo_bench.speed.stopwatch import Stopwatch

PROJECTIONS = "attention: projections"
SCORES = "attention: scores"
FEED_FORWARD = "feed-forward"
HEAD = "head"
REST = "rest"


def profile(asked: AskedPolicy, query: Query, repeats: int) -> dict[str, float]:
    """Median milliseconds of each part of a call, instrumenting the policy's network for good.

    "attention: scores" is attention without its four linear layers, "head" the whole sampling;
    "rest" is what is in none of the parts: norms, sums, masks, and the agent's own work.
    """
    watch = Stopwatch()
    _instrument(asked, watch)
    turns = []
    for _ in range(repeats):
        watch.take()
        call_ms, _ = asked.ask(query)
        parts = watch.take()
        parts[SCORES] -= parts[PROJECTIONS]
        parts[REST] = call_ms - sum(parts.values())
        turns.append(parts)
    return {name: float(np.median([parts[name] for parts in turns])) for name in turns[0]}


def _instrument(asked: AskedPolicy, watch: Stopwatch) -> None:
    model = asked.model
    if isinstance(model, Octo15):
        for name, tokenizer in model.images.items():
            watch.watch(tokenizer, "forward", f"camera: {name}")
    else:
        watch.watch(model, "encode_images", "cameras")
    for block in model.transformer.blocks:
        watch.watch(block.attention, "forward", SCORES)
        for layer in block.attention.children():
            watch.watch(layer, "forward", PROJECTIONS)
        for layer in block.feed_forward:
            watch.watch(layer, "forward", FEED_FORWARD)
    watch.watch(model.head, "sample", HEAD)
