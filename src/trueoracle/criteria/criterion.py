"""What a unit criterion is: an importance a unit, higher for one to keep."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto

from torch import Tensor

from trueoracle.criteria.collected import Collected


class Needs(Flag):
    """What is to be gathered for a criterion beside the weights, which are always there."""

    WEIGHTS = 0
    ACTIVATIONS = auto()
    """What the layers that sum over the units are given."""
    GRADIENTS = auto()
    """The gradient of each example's loss."""
    EXAMPLES = auto()
    """The examples themselves, to go through the network in a way of its own (see `Whole`)."""


@dataclass(frozen=True, kw_only=True)
class UnitCriterion:
    """`importance` says of a site how much each unit matters: float64, one a unit, higher = keep.

    It raises `CannotJudge` for a site that it has nothing to say of.
    """

    importance: Callable[[Collected], Tensor]
    needs: Needs = Needs.WEIGHTS
