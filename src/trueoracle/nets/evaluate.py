"""Loss and accuracy of a network on a whole split."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Small enough that a LeNet's activations stay in a CPU core's cache, large enough to keep a GPU busy.
_BATCH = {"cpu": 250, "cuda": 4096}


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Mean cross-entropy in nats and share of images classified correctly, over a whole split."""

    loss: float
    accuracy: float


def channels_last(net: nn.Module) -> nn.Module:
    """`net` itself with its convolutions' weights laid out for speed: a third faster on a CPU core."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.inference_mode()
def evaluate(net: nn.Module, images_NCHW: Tensor, labels_N: Tensor) -> Evaluation:
    """Evaluate `net` in eval mode on images and labels of one device.

    Logits are computed in the network's precision, cross-entropy and its sum in float64. A loss that is not
    finite comes back as it is.
    """
    was_training = net.training
    net.eval()
    total = torch.zeros((), dtype=torch.float64, device=images_NCHW.device)
    correct = torch.zeros((), dtype=torch.int64, device=images_NCHW.device)
    batch = _BATCH[images_NCHW.device.type]
    for images, labels in zip(torch.split(images_NCHW, batch), torch.split(labels_N, batch), strict=True):
        logits = net(images).double()
        total += F.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    net.train(was_training)
    return Evaluation(loss=total.item() / len(labels_N), accuracy=correct.item() / len(labels_N))
