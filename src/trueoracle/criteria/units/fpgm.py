"""Distance to the layer's other filters: sum over v of ||w_u - w_v||_2 (He et al., arXiv 1811.00250).

A filter near the geometric median of its layer can be stood in for by the others. Of coupled layers only the unit's own
weights are looked at, signed, biases left out.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import UnitCriterion


def importance(of: Collected) -> Tensor:
    """In the weights' unit."""
    apart_UU = torch.cdist(of.weights, of.weights, compute_mode="use_mm_for_euclid_dist").fill_diagonal_(0)
    return apart_UU.sum(1)


CRITERION = UnitCriterion(importance=importance)
