"""Squared first-order change of a minibatch's loss by a factor on the unit: the mean over minibatches of (dL/dz)^2 at z = 1
(Molchanov et al., arXiv 1906.10771, the form that they recommend).

The factor stands in front of the layers that sum over the unit, all of them. Minibatches as of `taylor_weight`.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.units.taylor_weight import BATCH


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    batches = of.known("gate_NU").split(BATCH)  # type: ignore[no-untyped-call]
    return torch.stack([batch_NU.mean(0).square() for batch_NU in batches]).mean(0)


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
