"""The weight's square among those of its layer that are no smaller ones: w^2 / sum of v^2 over v with v^2 >= w^2 (LAMP, Lee
et al., arXiv 2010.07611, eq. 4).

Within a layer its order is that of the magnitude; it makes weights of different layers comparable, where they are pooled.
"""

import torch
from torch import Tensor

from trueoracle.criteria.weighed import Layer


def importance(of: Layer) -> Tensor:
    """In [0, 1]; the largest weight has 1, unless others are as large."""
    square = of.weight.square().flatten()
    value, place = square.sort()
    left = value.flip(0).cumsum(0).flip(0)
    first = torch.searchsorted(value, value)  # of equal ones the first, so that they have equal scores
    found = torch.empty_like(square)
    found[place] = torch.where(left[first] > 0, value / left[first], torch.zeros_like(value))
    return found.view_as(of.weight)


CRITERION = importance
