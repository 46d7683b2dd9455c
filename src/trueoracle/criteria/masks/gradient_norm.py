"""The squared norm of the gradient that retraining begins with: ||dL/dw||^2 over all weights that are left.

Its root is a proxy of trainability in Abdelfattah et al., arXiv 2101.08134 (there at initialisation, higher is better).
"""

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned, dot


def measure(pruned: Pruned) -> float:
    """In nats squared per squared weight."""
    return dot(pruned.gradient, pruned.gradient).item()


PREDICTOR = MaskPredictor(better="higher", measure=measure)
