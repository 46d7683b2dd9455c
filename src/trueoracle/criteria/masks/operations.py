"""How many multiply-accumulates an image or token takes (see `trueoracle.nets.cost`): a control."""

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned
from trueoracle.nets import cost


def measure(pruned: Pruned) -> float:
    """A count."""
    return float(cost(pruned.net, pruned.dense.shape).macs)


PREDICTOR = MaskPredictor(better="higher", measure=measure)
