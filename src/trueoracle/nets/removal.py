"""Physical removal: the network that is left when a mask's units are gone, smaller in every coupled layer."""

import torch
from torch import nn

from trueoracle.nets.copying import twin
from trueoracle.nets.cutting import Tied, cut_layer
from trueoracle.nets.depth import drop_blocks
from trueoracle.nets.experts import tell_experts
from trueoracle.nets.fewer_heads import tell_heads
from trueoracle.nets.mending import tell
from trueoracle.nets.sites import HEADS, Kind, Role, Site, Sites
from trueoracle.nets.weighing import unit_weights
from trueoracle.words.known import Removal, check_removal
from trueoracle.words.mask import Mask


def remove(net: nn.Module, mask: Mask, sites: Sites, removal: Removal = "aligned") -> nn.Module:
    """A copy of `net`, whose sites are `sites`, without the units that `mask` prunes; `net` itself is untouched.

    Aligned, the consumers of a removed unit lose the inputs that it fed, so what is left computes exactly what the
    whole network computes with those units' outputs at zero. Released, see `Removal`.
    """
    check_removal(removal)
    pruned = twin(net).eval()
    tied: Tied = {}
    for (layer, role, dim), channels in _lost(net, mask, sites, removal).items():
        cut_layer(pruned, layer, role, dim, sorted(channels), tied)
    for part in mask.sites:
        site = sites.named(part.site)
        if site.kind in HEADS:
            tell_heads(pruned.get_submodule(site.name), part)
        elif site.kind is Kind.EXPERT:
            tell_experts(pruned.get_submodule(site.name), len(part.kept))
        tell(pruned, site, len(part.kept))
    for part in mask.sites:  # last, for then the names of other layers change
        if sites.named(part.site).kind is Kind.BLOCK:
            drop_blocks(pruned, sites.named(part.site), part)
    return pruned


def _lost(net: nn.Module, mask: Mask, sites: Sites, removal: Removal) -> dict[tuple[str, Role, int], set[int]]:
    """The channels that each side of each layer loses, over all sites.

    They are collected before anything is cut: behind a concatenation several sites cut one side of a layer, and a
    channel's number is its number in the whole network.
    """
    lost: dict[tuple[str, Role, int], set[int]] = {}
    for part in mask.sites:
        site = sites.named(part.site)
        gone = gone_after = part.pruned
        if removal == "released":
            l1 = l1_kept(net, site, len(part.kept))
            gone_after = tuple(unit for unit in range(part.units) if unit not in l1)
        for cut in site.cuts:
            channels = cut.channels(gone if cut.role is Role.PRODUCER else gone_after)
            lost.setdefault((cut.layer, cut.role, cut.dim), set()).update(channels)
    return lost


def l1_kept(net: nn.Module, site: Site, kept: int) -> tuple[int, ...]:
    """The `kept` units of largest mean absolute weight (see `unit_weights`), rising; ties go to the lower unit."""
    importance = unit_weights(net, site).abs().mean(1)
    best = torch.argsort(importance, descending=True, stable=True)[:kept]
    return tuple(sorted(best.tolist()))
