"""The statistics of BatchNorm taken anew, for a network whose own no longer fit (EagleEye, arXiv 2007.02491)."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH = 250


def has_batchnorm(net: nn.Module) -> bool:
    """Whether there are statistics to take anew."""
    return any(isinstance(module, _BatchNorm) and module.track_running_stats for module in net.modules())


@torch.no_grad()
def recalibrate(net: nn.Module, images_NCHW: Tensor) -> None:
    """Replace the running statistics of every BatchNorm of `net`, which is left in eval mode.

    Mean and variance become the plain averages over the batches of `BATCH` images, in the order given, of each
    batch's mean and unbiased variance; nothing else changes (other modules, such as dropout, stay in eval mode).
    A last batch of a single image is left out: it has no variance.
    """
    net.eval()
    momenta = {}
    for module in net.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            momenta[module] = module.momentum
            module.reset_running_stats()
            module.momentum = None  # a cumulative average
            module.train()
    for batch in torch.split(images_NCHW, BATCH):
        if len(batch) > 1:
            net(batch)
    for module, momentum in momenta.items():
        module.momentum = momentum
        module.eval()
