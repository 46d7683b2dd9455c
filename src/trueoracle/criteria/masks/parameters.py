"""How many parameters are left: a control, for it knows nothing of which units they are."""

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned


def measure(pruned: Pruned) -> float:
    """A count."""
    return float(sum(weight.numel() for weight in pruned.net.parameters()))


PREDICTOR = MaskPredictor(better="higher", measure=measure)
