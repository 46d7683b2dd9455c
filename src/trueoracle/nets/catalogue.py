"""Networks by name. Others add theirs through the entry-point group `trueoracle.models`."""

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch
from torch import nn

from trueoracle.errors import ModelError
from trueoracle.nets.lenet import LeNet5Mini
from trueoracle.nets.resnet import CifarResNet
from trueoracle.nets.vgg import CifarVGG
from trueoracle.plugins import look_up, with_plugins
from trueoracle.shape import InputShape

Architecture = Callable[..., nn.Module]
"""Takes an `InputShape`; and, where the network can be had narrower, `width_factor` as a keyword."""

MODELS: dict[str, Architecture] = {
    "lenet5-mini": LeNet5Mini,
    "lenet5-mini-w20": partial(LeNet5Mini, width=20),
    "lenet5-mini-w30": partial(LeNet5Mini, width=30),
    "lenet5-mini-w40": partial(LeNet5Mini, width=40),
    "lenet5-mini-d6": partial(LeNet5Mini, hidden=2),
    "lenet5-mini-d7": partial(LeNet5Mini, hidden=3),
    "lenet5-mini-d8": partial(LeNet5Mini, hidden=4),
    "resnet20": partial(CifarResNet, blocks=3),
    "resnet32": partial(CifarResNet, blocks=5),
    "resnet44": partial(CifarResNet, blocks=7),
    "resnet56": partial(CifarResNet, blocks=9),
    "resnet110": partial(CifarResNet, blocks=18),
    "vgg19": CifarVGG,
}


def build(name: str, shape: InputShape, seed: int = 0, width_factor: float = 1.0) -> nn.Module:
    """A freshly initialised network on the CPU, in eval mode; the same for the same seed.

    `width_factor` multiplies the filters of every layer. Raises `ModelError` for an unknown name, a shape that the
    network cannot take, or a factor for a network of one width.
    """
    architecture = look_up("model", name, with_plugins("models", MODELS), ModelError)
    if width_factor != 1:
        if "width_factor" not in signature(architecture).parameters:
            raise ModelError(f"`{name}` has one width: leave `width_factor` at 1, not {width_factor:g}")
        architecture = partial(architecture, width_factor=width_factor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture(shape).eval()
