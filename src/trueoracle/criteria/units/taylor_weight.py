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
    batches = of.known("weight_NU").split(BATCH)  # type: ignore[no-untyped-call]
    return torch.stack([batch_NU.mean(0).square() for batch_NU in batches]).mean(0)


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
