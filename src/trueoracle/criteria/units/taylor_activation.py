"""First-order change of each example's loss without the unit, in absolute value: the mean over examples of |sum of a dL/da|,
over the norm of the layer's (Molchanov et al., arXiv 1611.06440).

a is what reaches the layers that sum over the unit; over coupled layers the derivatives are summed before the absolute
value, for they go together.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """Relative to the layer."""
    mean_U = of.known("gate_NU").abs().mean(0)
    found: Tensor = mean_U / mean_U.norm().clamp(min=1e-300)
    return found


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
