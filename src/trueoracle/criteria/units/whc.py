"""How large the unit is, and how unlike the others: ||w_u|| times the sum over v of ||w_v|| (1 - |cos(w_u, w_v)|).

Weighted hybrid criterion (Chen et al., arXiv 2302.08185), of the unit's own weights, biases left out.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import UnitCriterion


def importance(of: Collected) -> Tensor:
    """In squares of the weights' unit."""
    norm_U = of.weights.norm(dim=1)
    cosine_UU = torch.nn.functional.normalize(of.weights, dim=1) @ torch.nn.functional.normalize(of.weights, dim=1).T
    unlike_UU = (1 - cosine_UU.abs()).fill_diagonal_(0)
    found: Tensor = norm_U * (unlike_UU @ norm_U)
    return found


CRITERION = UnitCriterion(importance=importance)
