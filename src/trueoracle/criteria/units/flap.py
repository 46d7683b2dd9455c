"""How much what the unit hands on fluctuates, and is heard: the sum over its channels j of Var(x_j) ||W_:,j||^2 (An et al.,
arXiv 2312.11983).

The variance is over examples and positions; of several layers that sum over the unit the sums are added. The bias that
the method adds for the mean is not.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.nets import channel_weights


def importance(of: Collected) -> Tensor:
    """In squares of the outputs' unit."""
    found_U = torch.zeros(of.site.units, dtype=torch.float64)
    for given in of.consumers():
        mean_C = torch.as_tensor(given.sum_C) / given.count
        variance_C = (torch.as_tensor(given.square_C) / given.count - mean_C.square()).clamp(min=0)
        heard_C = variance_C * channel_weights(of.net, given.cut).square().sum(1)
        found_U += heard_C[torch.from_numpy(given.cut.channels_UC)].sum(1)
    return found_U


CRITERION = UnitCriterion(importance=importance, needs=Needs.ACTIVATIONS)
