"""Physical removal: the network that is left when a mask's units are gone, smaller in every coupled layer."""

from copy import deepcopy

from torch import nn

from trueoracle.mask import Mask
from trueoracle.nets.sites import dependency_graph, removal_group
from trueoracle.shape import InputShape


def remove(net: nn.Module, mask: Mask, shape: InputShape) -> nn.Module:
    """A copy of `net` without the units that `mask` prunes; `net` itself is untouched.

    The consumers of a removed unit lose the inputs that it fed, so what is left computes exactly what the
    whole network computes with those units' outputs at zero.
    """
    pruned = deepcopy(net).eval()
    graph = dependency_graph(pruned, shape)
    for part in mask.sites:
        removal_group(graph, pruned.get_submodule(part.site), part.pruned).prune()
    return pruned
