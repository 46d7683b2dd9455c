"""The share of what the unit hands on that is not zero: one less the average percentage of zeros (Hu et al., arXiv
1607.03250, which removes the units of most zeros).

Of a network whose activations are never zero it says nothing, and is refused.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.refusal import CannotJudge


def importance(of: Collected) -> Tensor:
    """In [0, 1]."""
    zeros_U = of.mean("zeros")
    if not bool(zeros_U.any()):
        raise CannotJudge(
            f"what `{of.site.name}` hands on is never zero: no ReLU stands in front of what sums over its units"
        )
    return 1 - zeros_U


CRITERION = UnitCriterion(importance=importance, needs=Needs.ACTIVATIONS)
