"""The loss that a step of plain gradient descent leaves, by the second-order expansion of the loss (nats).

L - lr g'g + (lr^2 / 2) g'Hg, with gradient g and Hessian H of the pruned loss and the retraining's learning rate.
"""

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned, dot


def measure(pruned: Pruned) -> float:
    """The foretold loss; below zero where the expansion does not hold for so long a step."""
    gradient = [part.detach() for part in pruned.gradient]
    curvature = dot(gradient, pruned.hessian_product(gradient))
    rate = pruned.dense.lr
    return (pruned.loss - rate * dot(gradient, gradient) + rate**2 / 2 * curvature).item()


PREDICTOR = MaskPredictor(better="lower", measure=measure)
