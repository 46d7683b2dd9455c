"""Squared first-order change of a minibatch's loss without the unit's weights: the mean over minibatches of (sum of w
dL/dw)^2 (Molchanov et al., arXiv 1906.10771).

Minibatches are `BATCH` examples in order, the last may be smaller. Only the unit's own weights count, biases left out.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion

BATCH = 32


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    return of_minibatches(of.known("weight_NU"))


def of_minibatches(change_NU: Tensor) -> Tensor:
    """The squared mean of each minibatch's changes, averaged over the minibatches."""
    return torch.stack([batch_NU.mean(0).square() for batch_NU in torch.split(change_NU, BATCH)]).mean(0)


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
