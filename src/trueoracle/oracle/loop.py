"""One mask at a time: remove, evaluate. Slow and plain; what every faster path must equal."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from trueoracle.mask import Mask
from trueoracle.nets import Removal, channels_last, evaluate, remove
from trueoracle.shape import InputShape


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedLoss:
    """Mean cross-entropy (nats) and accuracy on the whole train split after removal, before retraining."""

    mask: Mask
    loss: float
    accuracy: float


def pruned_losses(
    net: nn.Module,
    masks: Iterable[Mask],
    shape: InputShape,
    images_NCHW: Tensor,
    labels_N: Tensor,
    removal: Removal = "aligned",
) -> Iterator[PrunedLoss]:
    """The pruned train loss of each mask in turn, on the network physically pruned by it.

    Forward passes run in the precision of `net` and the images, cross-entropy and sums in float64.
    """
    for mask in masks:
        pruned = remove(net, mask, shape, removal)
        result = evaluate(channels_last(pruned), images_NCHW, labels_N)
        yield PrunedLoss(mask=mask, loss=result.loss, accuracy=result.accuracy)
