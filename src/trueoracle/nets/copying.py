"""Copies of networks."""

from copy import deepcopy

from torch import Tensor, nn


def twin(net: nn.Module) -> nn.Module:
    """A copy that shares nothing with `net`, not even where weights are kept that a hook computes in front of each pass."""
    computed = [
        value
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    return deepcopy(net, {id(value): value.detach().clone() for value in computed})
