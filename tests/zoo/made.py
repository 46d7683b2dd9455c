"""A network of the zoo, made: always the same weights, and none that hides a mistake."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trueoracle.words.shape import InputShape, Shape, TextShape

IMAGES = InputShape(channels=3, height=8, width=8, classes=5)
"""What handmade networks take."""
LARGER = InputShape(channels=3, height=32, width=32, classes=5)
"""What classifiers of `transformers` take."""
TEXT = TextShape()


def shape_of(group: str) -> Shape:
    """What the networks of a group take: handmade, classifiers or language."""
    return {"handmade": IMAGES, "classifiers": LARGER, "language": TEXT}[group]


def made(factory: Callable[[], nn.Module]) -> nn.Module:
    """The network in float64 and eval mode.

    Biases, scales and statistics start as zeros and ones, at which wrong channels may look right: they are drawn anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = factory().double().eval()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if parameter.ndim == 1:
                    parameter.copy_(torch.randn_like(parameter) / 2 + name.endswith("weight"))
                elif parameter.numel() > 1 and float(parameter.std()) < 0.1:
                    parameter.copy_(torch.randn_like(parameter) / 5)
            for module in net.modules():
                if isinstance(module, _BatchNorm):
                    assert module.running_mean is not None
                    assert module.running_var is not None
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)
    return net
