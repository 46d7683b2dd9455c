"""Images and labels as the kernels take them: sixteen images side by side, the last layer relative to their classes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueoracle.lanes import LANES, aligned
from trueoracle.oracle.exact.chain import Layer

_BITS_A_NAT = 1 / np.log(2)
# An image that is not there loses nothing: its true class is ahead of every rival by more than float32 can tell.
_NEVER = -1000.0


def in_lanes(images_BCHW: Tensor) -> NDArray[np.float32]:
    """(vectors, C x H x W, 16) in one row, aligned; the last vector is filled up with zeros."""
    pixels = images_BCHW.detach().float().cpu().flatten(1)
    vectors = -(-len(pixels) // LANES)
    result = aligned(vectors * LANES * pixels.shape[1])
    view = torch.from_numpy(result).view(vectors, pixels.shape[1], LANES)
    whole = len(pixels) // LANES
    view[:whole] = pixels[: whole * LANES].view(whole, LANES, -1).transpose(1, 2)
    view[whole:, :, : len(pixels) % LANES] = pixels[whole * LANES :].T
    return result


def rival_weights(last: Layer) -> NDArray[np.float32]:
    """For each class y: bias and weights (1 + inputs, rivals) of every other class's logit less y's, in bits.

    A rival before y wins a tie. The smallest normal number on its bias says so where logits tie exactly
    because nothing sets the classes apart; beside any other bias it vanishes.
    """
    weight_KI, bias_K = last.weight[:, :, 0].astype(np.float64), last.bias.astype(np.float64)
    whole_KI = np.concatenate([bias_K[:, None], weight_KI], axis=1)
    classes = len(whole_KI)
    result = np.empty((classes, whole_KI.shape[1], classes - 1), dtype=np.float32)
    for true in range(classes):
        rivals = [rival for rival in range(classes) if rival != true]
        result[true] = ((whole_KI[rivals] - whole_KI[true]) * _BITS_A_NAT).T
        result[true, 0, :true][result[true, 0, :true] == 0] = np.finfo(np.float32).tiny
    return result


def by_lane(rivals_KIR: NDArray[np.float32], images_BCHW: Tensor, labels_B: Tensor) -> NDArray[np.float32]:
    """(vectors, 1 + inputs, rivals, 16) in one row, aligned: each image's own weights.

    Pixels that are no numbers may be lost in the kernels' maxima; the logits of their image are set to be none here.
    """
    labels = labels_B.cpu().numpy()
    vectors = -(-len(labels) // LANES)
    each = np.zeros((vectors * LANES, *rivals_KIR.shape[1:]), dtype=np.float32)
    each[: len(labels)] = rivals_KIR[labels]
    each[len(labels) :, 0] = _NEVER
    each[: len(labels)][~images_BCHW.isfinite().flatten(1).all(1).cpu().numpy()] = np.nan
    result = aligned(each.size)
    result.reshape(vectors, *rivals_KIR.shape[1:], LANES)[:] = each.reshape(
        vectors, LANES, *rivals_KIR.shape[1:]
    ).transpose(0, 2, 3, 1)
    return result
