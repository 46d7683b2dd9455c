"""The pruned train loss on a sample of the train images (nats): what oracle pruning looks at, cheaper and noisier."""

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned


def measure(pruned: Pruned) -> float:
    """The mean loss over the examples."""
    return pruned.judged.loss_B.mean().item()


PREDICTOR = MaskPredictor(better="lower", measure=measure)
