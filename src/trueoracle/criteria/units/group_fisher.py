"""As `fisher`, over the numbers that the unit hands on: per memory that its removal saves (Liu et al., arXiv 2108.00708).

The derivative is summed over the coupled layers before it is squared. Within a site it orders units as `fisher` does;
sites of different maps are made comparable.
"""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion


def importance(of: Collected) -> Tensor:
    """In squared nats a number."""
    numbers = sum(given.count * given.cut.channels_UC.shape[1] for given in of.consumers())
    gate_NU = of.known("gate_NU")
    found: Tensor = gate_NU.square().sum(0) / 2 / (numbers / len(gate_NU))
    return found


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS | Needs.ACTIVATIONS)
