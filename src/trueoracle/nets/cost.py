"""What a network costs: its parameters and its multiply-accumulates for one image."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trueoracle.nets.copying import twin
from trueoracle.nets.masked import kept_weights
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.removal import remove
from trueoracle.nets.sites import Site, Sites
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Parameters, and multiply-accumulates of the forward pass of one image or, for a language model, one token.

    Weights that a mask holds at zero are no parameters; they are multiplied all the same.
    """

    parameters: int
    macs: int


def cost(net: nn.Module, shape: Shape) -> Cost:
    """The cost of `net` for one image, or for one token without others before it.

    Counted are the multiply-accumulates of convolutions, linear layers and attention's products, as is customary;
    biases, normalisations, activations and poolings are not.
    """
    counter = FlopCounterMode(display=False)
    if any(isinstance(module, nn.LSTM) for module in net.modules()):
        net = twin(net).double()  # in float32 it is one operation on a CPU, which the counter does not know
    # Fused attention is opaque to the counter on a CPU; the plain one is a product it knows.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        logits_of_noise(net, shape, 1, tokens=1)
    held = sum(int((~kept).sum()) for kept in kept_weights(net).values())
    return Cost(parameters=sum(p.numel() for p in net.parameters()) - held, macs=counter.get_total_flops() // 2)


def unit_costs(net: nn.Module, sites: Sites, shape: Shape) -> Iterator[tuple[Site, Cost]]:
    """What the whole network saves by losing one unit of a site, in the order of the sites."""
    whole = cost(net, shape)
    for site in sites.values():
        one = SiteMask(site=site.name, units=site.units, kept=tuple(range(1, site.units)))
        left = cost(remove(net, Mask(rank=0, sites=(one,)), sites), shape)
        yield site, Cost(parameters=whole.parameters - left.parameters, macs=whole.macs - left.macs)
