"""The weight's absolute value (Han et al., arXiv 1506.02626): L1 of a single weight."""

from torch import Tensor

from trueoracle.criteria.weighed import Layer


def importance(of: Layer) -> Tensor:
    """In the weights' unit."""
    return of.weight.abs()


CRITERION = importance
