"""The unit's squared norm among those that are left when smaller ones went: s_u / sum of s_v over v with s_v >= s_u.

The score of Lee et al., arXiv 2010.07611, which is defined for single weights, taken of units: s is the sum of squares of
the unit's own weights.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import UnitCriterion


def importance(of: Collected) -> Tensor:
    """In [0, 1]; the largest unit has 1."""
    square_U = of.weights.square().sum(1)
    left_U = torch.stack([square_U[square_U >= one].sum() for one in square_U])
    return torch.where(left_U > 0, square_U / left_U, torch.zeros_like(square_U))


CRITERION = UnitCriterion(importance=importance)
