"""The share of a sample of the train images that the pruned network answers right."""

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned


def measure(pruned: Pruned) -> float:
    """In [0, 1]."""
    return pruned.judged.right_B.double().mean().item()


PREDICTOR = MaskPredictor(better="higher", measure=measure)
