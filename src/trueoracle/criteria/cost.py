"""What a unit criterion takes when it is alone: core-seconds of this thread."""

from collections.abc import Mapping
from dataclasses import replace
from time import thread_time

from torch import nn

from trueoracle.criteria.collect import collect
from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs
from trueoracle.nets import Site
from trueoracle.words.examples import Examples

TIMED = 8
"""Gathering is timed on so many examples: it takes one after another, so all take in proportion."""


def gathering_seconds(net: nn.Module, sites: Mapping[str, Site], examples: Examples, needs: Needs) -> float:
    """What it takes to gather this, and nothing else, on all of these examples; estimated from the first `TIMED` of them."""
    few = examples.take(slice(TIMED))
    collect(net, sites, examples.take(slice(1)), needs)  # what is made on first use is no criterion's
    began = thread_time()
    collect(net, sites, few, needs)
    return (thread_time() - began) * len(examples) / len(few)


def afresh(collected: Mapping[str, Collected]) -> dict[str, Collected]:
    """The same, without what criteria made of it: the next one bears all that it needs alone."""
    if not collected:
        return {}
    whole = replace(next(iter(collected.values())).whole, made={})
    return {name: replace(of, whole=whole) for name, of in collected.items()}
