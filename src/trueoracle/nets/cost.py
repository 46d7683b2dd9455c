"""What a network costs: its parameters and its multiply-accumulates for one image."""

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn

from trueoracle.shape import InputShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Parameters, and multiply-accumulates of one image's forward pass."""

    parameters: int
    macs: int


def cost(net: nn.Module, shape: InputShape) -> Cost:
    """The cost of `net`, counted by torch-pruning on one image."""
    example = torch.zeros(1, shape.channels, shape.height, shape.width)
    macs, parameters = tp.utils.count_ops_and_params(deepcopy(net).float().cpu(), example)
    return Cost(parameters=int(parameters), macs=int(macs))
