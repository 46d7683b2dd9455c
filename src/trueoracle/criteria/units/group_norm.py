"""The norm of all weights that go with the unit, over all coupled layers: the root of the sum of w^2 (DepGraph, Fang et
al., arXiv 2301.12900).

Producers, followers and consumers count alike, biases left out: the rule for coupled layers is their sum. No sparse
training goes before it.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import UnitCriterion
from trueoracle.nets import Role


def importance(of: Collected) -> Tensor:
    """In the weights' unit."""
    cuts = of.cuts(Role.PRODUCER, Role.FOLLOWER, Role.CONSUMER)
    return torch.stack([of.of_units(cut).square().sum(1) for cut in cuts]).sum(0).sqrt()


CRITERION = UnitCriterion(importance=importance)
