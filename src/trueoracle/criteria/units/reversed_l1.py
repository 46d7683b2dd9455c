"""A control: the negative mean absolute weight, so that the largest units go first."""

from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import UnitCriterion


def importance(of: Collected) -> Tensor:
    """In the weights' unit, below zero."""
    return -of.weights.abs().mean(1)


CRITERION = UnitCriterion(importance=importance)
