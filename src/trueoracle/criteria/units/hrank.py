"""The mean rank of the unit's maps (Lin et al., arXiv 2002.10179): a map of high rank holds more than one of low rank.

The maps are what the 2-d convolutions that sum over the unit are given, behind normalisation and activation, of the first `MAPPED`
examples; over examples, channels of the unit and these convolutions the rank is averaged. A singular value counts
where it exceeds the largest times the longer side times the rounding error of the network's precision. Maps that no
convolution is given (flattened, pooled to a number) have no rows and columns, and those of a single row or column no
rank that could tell units apart: such sites are refused.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.maps import mean_over_maps
from trueoracle.criteria.whole import Whole
from trueoracle.nets import Input

_IMAGE = -3  # where a 2-d convolution has its channels


def importance(of: Collected) -> Tensor:
    """In [0, rows or columns]."""
    return of.of_whole(mean_ranks, "no convolution is given maps with rows and columns")


def mean_ranks(whole: Whole) -> dict[str, Tensor]:
    """By site: the mean rank of each unit."""
    return mean_over_maps(whole, _ranks)


def _ranks(given: Input) -> Tensor | None:
    if given.dim != _IMAGE or min(given.x.shape[-2:]) < 2:
        return None
    maps_NCHW = given.x if given.x.ndim > 3 else given.x[None]
    tolerance = max(given.x.shape[-2:]) * torch.finfo(given.x.dtype).eps
    rank_NC = torch.linalg.matrix_rank(maps_NCHW.double(), rtol=tolerance)
    rank_C: Tensor = rank_NC.double().mean(0).cpu()
    return rank_C[torch.from_numpy(given.cut.channels_UC)].mean(1)


CRITERION = UnitCriterion(importance=importance, needs=Needs.EXAMPLES)
