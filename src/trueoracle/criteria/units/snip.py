"""How much the mean loss depends on the unit's weights: the sum of |w dL/dw| (Lee et al., arXiv 1810.02340,
there of single weights and before training).
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """In nats."""
    return of.known("snip_U")


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
