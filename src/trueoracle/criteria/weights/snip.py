"""How much the mean loss depends on a factor on the weight: |w dL/dw| (SNIP, Lee et al., arXiv 1810.02340, eq. 5; there
before training).
"""

from torch import Tensor

from trueoracle.criteria.weighed import Layer


def importance(of: Layer) -> Tensor:
    """In nats."""
    return (of.weight * of.gradient).abs()


CRITERION = importance
