"""The Fisher information of a factor on the unit: 1/2 of the mean over examples of (dL/dz)^2 at z = 1 (Theis et al., arXiv
1801.05787; the square is taken of each example).
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    return of.known("gate_NU").square().mean(0) / 2


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
