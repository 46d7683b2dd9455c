"""One mask at a time: remove, evaluate. Slow and plain; what every faster path must equal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from trueoracle.mask import Mask
from trueoracle.nets import Removal, channels_last, evaluate, remove
from trueoracle.oracle.evaluator import Sums
from trueoracle.shape import InputShape
from trueoracle.space import MaskSpace


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


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The path that every other one must equal: physically pruned networks, one after the other.

    `path` says why this path was taken where another had been wished for.
    """

    net: nn.Module
    space: MaskSpace
    shape: InputShape
    removal: Removal = "aligned"
    path: str = "loop"

    def sums(self, ranks: Sequence[int], images_BCHW: Tensor, labels_B: Tensor) -> Sums:
        """The sums of the masks of these ranks; one copy of the network is held at a time."""
        masks = map(self.space.unrank, ranks)
        found = list(pruned_losses(self.net, masks, self.shape, images_BCHW, labels_B, self.removal))
        images = len(labels_B)
        return Sums(
            loss_M=np.array([mask.loss * images for mask in found], dtype=np.float64),
            correct_M=np.array([round(mask.accuracy * images) for mask in found], dtype=np.int64),
        )
