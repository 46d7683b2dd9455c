"""Physical removal: the network that is left when a mask's units are gone, smaller in every coupled layer."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn

from trueoracle.errors import ModelError
from trueoracle.mask import Mask
from trueoracle.nets.sites import dependency_graph, prunes_outputs, removal_group
from trueoracle.shape import InputShape

Removal = Literal["aligned", "released"]
"""How the layers that follow a pruned one are cut.

`aligned`: they lose the inputs that the removed units fed. `released`: as the paper's released code does, they keep
the inputs of the units of largest L1 norm, as many as the mask keeps, whichever mask it is; only the L1 mask
itself is then removed as it should be.
"""

REMOVALS: tuple[Removal, ...] = ("aligned", "released")


def remove(net: nn.Module, mask: Mask, shape: InputShape, removal: Removal = "aligned") -> nn.Module:
    """A copy of `net` without the units that `mask` prunes; `net` itself is untouched.

    Aligned, the consumers of a removed unit lose the inputs that it fed, so what is left computes exactly what the
    whole network computes with those units' outputs at zero. Released, see `Removal`.
    """
    check_removal(removal)
    pruned = deepcopy(net).eval()
    graph = dependency_graph(pruned, shape)
    for part in mask.sites:
        module = pruned.get_submodule(part.site)
        group = removal_group(graph, module, part.pruned)
        if removal == "aligned":
            group.prune()
            continue
        l1 = l1_kept(net, part.site, len(part.kept))
        of_l1 = removal_group(graph, module, tuple(unit for unit in range(part.units) if unit not in l1))
        for dependency, units in list(_released(group, of_l1)):
            dependency(units)
    return pruned


def check_removal(removal: str) -> None:
    """`ModelError` for a removal that there is not."""
    if removal not in REMOVALS:
        raise ModelError(f"`removal` must be one of {', '.join(REMOVALS)}, but got {removal!r}")


def l1_kept(net: nn.Module, site: str, kept: int) -> tuple[int, ...]:
    """The `kept` units of largest mean absolute weight (bias left out), rising; ties go to the lower unit."""
    weight: Tensor = net.get_submodule(site).weight  # type: ignore[assignment]
    importance = weight.detach().double().abs().flatten(1).mean(1).cpu()
    best = torch.argsort(importance, descending=True, stable=True)[:kept]
    return tuple(sorted(best.tolist()))


def _released(group: tp.Group, of_l1: tp.Group) -> Iterator[tuple[tp.Dependency, list[int]]]:
    """The mask's units where a layer loses outputs, the L1 mask's wherever something follows it."""
    for (dependency, units), (_, l1_units) in zip(group, of_l1, strict=True):
        yield dependency, units if prunes_outputs(dependency) else l1_units
