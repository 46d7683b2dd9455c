"""Optimal brain damage: 1/2 sum of h w^2 over the unit's own weights (LeCun, Denker and Solla, 1989).

h, the Hessian's diagonal, is taken as the mean over examples of (dL/dw)^2, the empirical Fisher, where the source
propagates second derivatives back.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """In nats."""
    return of.known("square_U") / 2


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
