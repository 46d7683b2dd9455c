"""Squared first-order change of a minibatch's loss by a factor on the unit: the mean over minibatches of (dL/dz)^2 at z = 1
(Molchanov et al., arXiv 1906.10771, the form that they recommend).

The factor stands in front of the layers that sum over the unit, all of them. Minibatches as of `taylor_weight`.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.units.taylor_weight import of_minibatches


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    return of_minibatches(of.known("gate_NU"))


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
