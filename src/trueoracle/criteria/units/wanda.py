"""What the unit's inputs weigh in the layers that sum over it: the sum of |W_ij| ||X_j||_2 over the unit's columns j (Sun et
al., arXiv 2306.11695, which is of single weights).

X_j are all inputs of column j, over examples and positions. Of several layers the sums are added.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.nets import channel_weights


def importance(of: Collected) -> Tensor:
    """In the outputs' unit."""
    found_U = torch.zeros(of.site.units, dtype=torch.float64)
    for given in of.consumers():
        weight_CP = channel_weights(of.net, given.cut).abs()
        norm_C = torch.as_tensor(given.square_C).sqrt()
        found_U += (weight_CP.sum(1) * norm_C)[torch.from_numpy(given.cut.channels_UC)].sum(1)
    return found_U


CRITERION = UnitCriterion(importance=importance, needs=Needs.ACTIVATIONS)
