"""The loss once the statistics of BatchNorm were taken anew (EagleEye, arXiv 2007.02491), in nats.

Statistics and loss are taken on the same sample of train images. What it lowers was no loss of information, only
statistics that no longer fitted.
"""

from copy import deepcopy

from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Pruned
from trueoracle.criteria.refusal import CannotJudge
from trueoracle.nets import evaluate, has_batchnorm, recalibrate


def measure(pruned: Pruned) -> float:
    """The mean loss over the examples."""
    if not has_batchnorm(pruned.net):
        raise CannotJudge("the network has no BatchNorm to recalibrate")
    net = deepcopy(pruned.net)
    recalibrate(net, pruned.dense.images(len(pruned.dense.examples)).images_NCHW)
    return evaluate(net, pruned.dense.examples).loss


PREDICTOR = MaskPredictor(better="lower", measure=measure)
