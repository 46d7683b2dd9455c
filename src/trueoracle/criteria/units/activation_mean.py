"""The mean of what the unit hands on to the layers that sum over it (Molchanov et al., arXiv 1611.06440).

Behind normalisation and activation; over examples, positions, channels of the unit and layers.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """In the activations' unit."""
    return of.mean("sum")


CRITERION = UnitCriterion(importance=importance, needs=Needs.ACTIVATIONS)
