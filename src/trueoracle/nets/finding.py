"""All sites of a network."""

from collections.abc import Mapping

from torch import nn

from trueoracle.nets.blocks import head_sites, neuron_sites
from trueoracle.nets.language import decoder
from trueoracle.nets.sites import Site, Sites
from trueoracle.nets.tracing import traced_sites
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import Shape, TextShape


def find_sites(net: nn.Module, shape: Shape) -> Sites:
    """The sites of `net`: heads by the names of their projections, filters and neurons by tracing an image of `shape`.

    In language models nothing is traced: the neurons are those of the MLPs that are known by the names of their layers,
    and what lies outside of the decoder, as eyes do, is no site. Raises `ModelError` where `net` cannot be traced or
    has no site.
    """
    if isinstance(shape, TextShape):
        return _language_sites(net)
    heads = head_sites(net)
    taken = {cut.layer: site.name for site in heads.values() for cut in site.cuts}
    others = traced_sites(net, shape, taken)
    return _in_order(net, {**heads, **others}, {**heads.refused, **others.refused})


def _language_sites(net: nn.Module) -> Sites:
    heads = head_sites(net)
    every = {**heads, **neuron_sites(net)}
    inside = decoder(net)
    found = {name: site for name, site in every.items() if name.startswith(inside)}
    outside = dict.fromkeys(every.keys() - found.keys(), f"it is no part of the language model, `{inside}`")
    return _in_order(net, found, {**heads.refused, **outside})


def _in_order(net: nn.Module, found: Mapping[str, Site], refused: Mapping[str, str]) -> Sites:
    """In the order of the network's modules."""
    if not found:
        reasons = (f": of `{layer}`, {reason}" for layer, reason in refused.items())
        raise ModelError(f"{type(net).__name__} has no site{next(reasons, ', for it has no layers that are known')}")
    return Sites({name: found[name] for name, _ in net.named_modules() if name in found}, refused)
