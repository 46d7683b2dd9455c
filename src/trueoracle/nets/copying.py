"""Copies of networks."""

from copy import deepcopy

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def twin(net: nn.Module) -> nn.Module:
    """A copy that shares nothing with `net`, not even weights that a hook computes, or what a module keeps of a pass."""
    computed = [
        value
        for module in net.modules()
        for value in tree_leaves(vars(module))
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    return deepcopy(net, {id(value): value.detach().clone() for value in computed})
