"""What is true of every network: removal is silence made smaller, of random units of all sites together.

What a network loses is held beside the sizes that its sites promise, and what it computes beside the network with the
same units silent where they are made. Where a site says that something is normalised over its units, that is left out of
both.
"""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn

import zoo
from odd_networks import NETWORKS as ODD
from trueoracle.nets import Role, Sites, find_sites, remove, silenced, unnormalised
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.proof import seen_through
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape, Shape

COLOUR = InputShape(channels=3, height=32, width=32, classes=5)
NETWORKS = {**{f"odd: {name}": (factory, COLOUR) for name, factory in ODD.items()}, **zoo.NETWORKS}
MASKS = 3
LONG = ("classifiers: MobileViT", "classifiers: CvT", "classifiers: Swin", "classifiers: EfficientNet")


def random_mask(sites: Sites, seed: int) -> Mask:
    """Of every site any number of units but all or none."""
    chance = torch.Generator().manual_seed(seed)
    parts = []
    for site in sites.values():
        kept = int(torch.randint(1, site.units, (), generator=chance))
        order = torch.randperm(site.units, generator=chance)[:kept].tolist()
        parts.append(SiteMask(site=site.name, units=site.units, kept=tuple(sorted(order))))
    return Mask(rank=0, sites=tuple(parts))


def promised(net: nn.Module, mask: Mask, sites: Sites) -> int:
    """How many parameters are left, counted tensor by tensor from what the sites say that each dimension loses."""
    lost: dict[tuple[str, int], set[int]] = {}
    modules = dict(net.named_modules())
    for part in mask.sites:
        for cut in sites[part.site].cuts:
            module, channels = modules.get(cut.layer), cut.channels(part.pruned)
            for name, dim in _stored(modules, _cut_dims(module, cut.layer, cut.role, cut.dim)):
                each = 1  # outputs to a row of the weight: of transposed convolutions in groups, rows are inputs
                if cut.role is Role.FOLLOWER and getattr(module, "transposed", False) and name.endswith("weight"):
                    each = module.out_channels // module.in_channels or 1  # type: ignore[union-attr, operator]
                lost.setdefault((name, dim), set()).update(channel // each for channel in channels)
    blocks = tuple(
        f"{sites[part.site].blocks[unit]}." for part in mask.sites if sites[part.site].blocks for unit in part.pruned
    )
    left = 0
    for name, parameter in net.named_parameters():
        if name.startswith(blocks):
            continue
        sizes = list(parameter.shape)
        for dim in range(parameter.ndim):
            gone = lost.get((name, dim), set())
            if name.endswith("original0") and sizes[dim] == 1:  # a magnitude, that is one number over this dimension
                continue
            owner = modules[name.rpartition(".")[0].removesuffix(".parametrizations.weight")]
            groups = getattr(owner, "groups", 1) if dim == 1 else 1
            sizes[dim] -= len(gone) // groups
        count = 1
        for size in sizes:
            count *= size
        left += count
    return left


def _stored(modules: dict[str, nn.Module], dims: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Where a weight is computed of a magnitude and a direction, these."""
    for name, dim in dims:
        layer, _, last = name.rpartition(".")
        if last == "weight" and f"{layer}.parametrizations.weight" in modules:
            yield from ((f"{layer}.parametrizations.weight.original{part}", dim) for part in (0, 1))
        else:
            yield name, dim


def _cut_dims(module: nn.Module | None, layer: str, role: Role, dim: int) -> list[tuple[str, int]]:
    if module is None:
        return [(layer, dim)]
    transposed = getattr(module, "transposed", False) or type(module).__name__ == "Conv1D"
    if role is Role.CONSUMER:
        return [(f"{layer}.weight", 0 if transposed else 1)]
    if role is Role.PRODUCER:
        first = 1 if transposed or isinstance(module, nn.Embedding) else 0
        return [(f"{layer}.weight", first), (f"{layer}.bias", 0)]
    return [(f"{layer}.{name}", dim) for name in ("weight", "bias") if getattr(module, name, None) is not None]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NETWORKS]
)
def test_random_masks_over_all_sites_are_removed_exactly(name: str) -> None:
    factory, shape = NETWORKS[name]
    net = zoo.made(factory)
    sites = sites_of(net, shape)
    assert_no_channel_is_shared(sites)
    if not sites:
        return
    left_out = {by for site in sites.values() for by in site.normalised_by}
    whole = seen_through(deepcopy(net))
    for seed in range(MASKS):
        mask = random_mask(sites, seed)
        pruned = remove(net, mask, sites)
        with torch.no_grad():
            assert logits_of_noise(pruned, shape, 2).isfinite().all()
            with unnormalised(pruned, left_out):
                found = logits_of_noise(pruned, shape, 2)
            with unnormalised(whole, left_out), silenced(whole, mask, sites):
                wanted = logits_of_noise(whole, shape, 2)
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))
        assert sum(parameter.numel() for parameter in pruned.parameters()) == promised(net, mask, sites)


def assert_no_channel_is_shared(sites: Sites) -> None:
    held = set()
    for site in sites.values():
        for cut in site.cuts:
            for channel in cut.channels_UC.ravel().tolist():
                place = (cut.layer, cut.role is Role.CONSUMER, cut.dim, channel)
                assert place not in held
                held.add(place)


def sites_of(net: nn.Module, shape: Shape) -> Sites:
    """None, where that is said; any other refusal is an error."""
    try:
        return find_sites(net, shape)
    except ModelError as error:
        if "has no site" not in str(error):
            raise
        return Sites({})
