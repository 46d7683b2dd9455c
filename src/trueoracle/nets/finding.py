"""All sites of a network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from trueoracle.nets.blocks import head_sites, neuron_sites
from trueoracle.nets.proof import proved
from trueoracle.nets.sites import Site, Sites
from trueoracle.nets.text import decoder
from trueoracle.nets.tracing import traced_sites
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape, Shape, TextShape


def find_sites(net: nn.Module, shape: Shape) -> Sites:
    """The sites of `net`: heads by the names of their projections, filters and neurons by tracing an image of `shape`.

    In language models nothing is traced: the neurons are those of the MLPs that are known by the names of their layers,
    and what lies outside of the decoder, as eyes do, is no site. Raises `ModelError` where `net` cannot be traced or
    has no site.
    """
    check_plain(net)
    with _in_eval_mode(net):
        sites = _language_sites(net) if isinstance(shape, TextShape) else _image_sites(net, shape)
        passed = proved(net, sites, shape) if sites else sites
    return _in_order(net, passed, passed.refused)


def _image_sites(net: nn.Module, shape: InputShape) -> Sites:
    heads = head_sites(net)
    others = traced_sites(net, shape, heads)
    return Sites({**heads, **others}, {**heads.refused, **others.refused})


@contextmanager
def _in_eval_mode(net: nn.Module) -> Iterator[None]:
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def check_plain(net: nn.Module) -> None:
    """`ModelError` where weights are computed in front of each forward pass, for then they cannot be cut."""
    for name, module in net.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, BasePruningMethod):
                raise ModelError(
                    f"`{name}` is masked by torch.nn.utils.prune: make its mask permanent first, by "
                    f"torch.nn.utils.prune.remove(module, '{hook._tensor_name}')"
                )


def _language_sites(net: nn.Module) -> Sites:
    heads = head_sites(net)
    every = {**heads, **neuron_sites(net)}
    inside = decoder(net)
    found = {name: site for name, site in every.items() if name.startswith(inside)}
    outside = dict.fromkeys(every.keys() - found.keys(), f"it is no part of the language model, `{inside}`")
    return Sites(found, {**heads.refused, **outside})


def _in_order(net: nn.Module, found: Mapping[str, Site], refused: Mapping[str, str]) -> Sites:
    """In the order of the network's modules."""
    if not found:
        reasons = (f": of `{layer}`, {reason}" for layer, reason in refused.items())
        raise ModelError(f"{type(net).__name__} has no site{next(reasons, ', for it has no layers that are known')}")
    return Sites({name: found[name] for name, _ in net.named_modules() if name in found}, refused)
