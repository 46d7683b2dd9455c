"""All sites of a network."""

from torch import nn

from trueoracle.errors import ModelError
from trueoracle.nets.blocks import head_sites, neuron_sites
from trueoracle.nets.sites import Sites
from trueoracle.nets.tracing import traced_sites
from trueoracle.shape import InputShape


def find_sites(net: nn.Module, shape: InputShape | None) -> Sites:
    """The sites of `net`: heads by the names of their projections, filters and neurons by tracing an image of `shape`.

    Without a shape, as for language models, nothing is traced, and the neurons are those of the MLPs that are known by
    the names of their layers. Raises `ModelError` where `net` cannot be traced or has no site.
    """
    heads = head_sites(net)
    taken = {cut.layer: site.name for site in heads.values() for cut in site.cuts}
    others = neuron_sites(net) if shape is None else traced_sites(net, shape, taken)
    found = {**heads, **others}
    refused = {**heads.refused, **others.refused}
    if not found:
        reasons = (f": of `{layer}`, {reason}" for layer, reason in refused.items())
        raise ModelError(f"{type(net).__name__} has no site{next(reasons, ', for it has no layers that are known')}")
    return Sites({name: found[name] for name, _ in net.named_modules() if name in found}, refused)
