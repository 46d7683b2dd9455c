"""How far training moves the weight away from zero: minus the sum over steps of rate x w dL/dw (movement pruning, Sanh et
al., arXiv 2005.07683, eq. 4).

The steps are those of plain SGD at the rate of retraining, once over the examples in batches of 32, of all weights of the
whole network: the source prunes as it goes.
"""

from torch import Tensor

from trueoracle.criteria.weighed import Layer


def importance(of: Layer) -> Tensor:
    """In nats; negative for a weight that shrinks."""
    return of.movement


CRITERION = importance
