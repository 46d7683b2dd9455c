"""Learning from the dense network: its answers are targets beside the classes.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (arXiv 1503.02531, section 2). Letters: N images of a
split, B batch, C channels, K classes; `...` what a caller has before them, such as networks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data import Split


@torch.no_grad()
def answers_of(teacher: nn.Module, images_BCHW: Tensor) -> Tensor:
    """The logits (B, K) of a network in eval mode, in its own precision whatever the training's is."""
    with torch.autocast(images_BCHW.device.type, enabled=False):
        logits_BK: Tensor = teacher(images_BCHW)
    return logits_BK


def answers_on(teacher: nn.Module, split: Split) -> Tensor:
    """Its logits (N, K) on a whole split: it never learns, so they hold for all of a training that changes no image."""
    return torch.cat([answers_of(teacher, part) for part in torch.split(split.images_NCHW, split.at_once)])


def divergence(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far from what is `taught` the `logits` (..., K) are: KL(teacher || student) in nats, (...), both softened.

    Times the temperature's square, so that its gradient is of one size at any temperature.
    """
    own, given = F.log_softmax(logits / temperature, -1), F.log_softmax(taught / temperature, -1)
    return temperature**2 * (given.exp() * (given - own)).sum(-1)
