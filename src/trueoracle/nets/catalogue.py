"""Networks by name. Others add theirs through the entry-point group `trueoracle.models`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from trueoracle.errors import ModelError
from trueoracle.nets.lenet import LeNet5Mini
from trueoracle.nets.resnet import CifarResNet
from trueoracle.nets.vgg import CifarVGG
from trueoracle.plugins import look_up, with_plugins
from trueoracle.shape import InputShape

Architecture = Callable[[InputShape], nn.Module]

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


def build(name: str, shape: InputShape, seed: int = 0) -> nn.Module:
    """A freshly initialised network on the CPU, in eval mode; the same for the same seed.

    Raises `ModelError` for an unknown name or a shape that the network cannot take.
    """
    architecture = look_up("model", name, with_plugins("models", MODELS), ModelError)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture(shape).eval()
