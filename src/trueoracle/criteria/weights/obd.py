"""Optimal brain damage: 1/2 h w^2 (LeCun, Denker and Solla, 1989).

h, the Hessian's diagonal, is taken as the mean over examples of (dL/dw)^2, the empirical Fisher, where the source
propagates second derivatives back.
"""

from torch import Tensor

from trueoracle.criteria.weighed import Layer


def importance(of: Layer) -> Tensor:
    """In nats."""
    return of.square * of.weight.square() / 2


CRITERION = importance
