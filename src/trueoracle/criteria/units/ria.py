"""As `wanda`, with each weight taken relative to its row and its column: the sum of (|W_ij| / sum of row i + |W_ij| / sum of
column j) ||X_j||_2^0.5 (RIA, Zhang et al., ICLR 2024, of single weights).

Rows are outputs, columns inputs of the layers that sum over the unit; a convolution's taps are rows of their own.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.nets import channel_weights

_TINY = 1e-300


def importance(of: Collected) -> Tensor:
    """Without a unit of its own."""
    found_U = torch.zeros(of.site.units, dtype=torch.float64)
    for given in of.consumers():
        weight_CP = channel_weights(of.net, given.cut).abs()
        norm_C = torch.as_tensor(given.square_C).sqrt()
        found_U += (
            (
                weight_CP / weight_CP.sum(0).clamp(min=_TINY)
                + weight_CP / weight_CP.sum(1, keepdim=True).clamp(min=_TINY)
            ).sum(1)
            * norm_C.sqrt()
        )[torch.from_numpy(given.cut.channels_UC)].sum(1)
    return found_U


CRITERION = UnitCriterion(importance=importance, needs=Needs.ACTIVATIONS)
