"""Squared second-order change of the loss without the unit's weights: (sum of w dL/dw - 1/2 sum of h w^2)^2 (Molchanov et
al., arXiv 1906.10771).

h, the Hessian's diagonal, is taken as the mean over examples of (dL/dw)^2: the empirical Fisher.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    return (of.known("weight_NU").mean(0) - of.known("square_U") / 2).square()


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
