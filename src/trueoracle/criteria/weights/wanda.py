"""What the weight is given to weigh: |W_ij| ||X_j||_2 (Wanda, Sun et al., arXiv 2306.11695, eq. 1).

X_j is all that input j hands over, over examples and positions; of a convolution, input channel j. Weights are compared
within the group that is pruned, where the source compares those of one output.
"""

from torch import Tensor

from trueoracle.criteria.weighed import Layer


def importance(of: Layer) -> Tensor:
    """In the outputs' unit."""
    return of.weight.abs() * of.input_norm


CRITERION = importance
