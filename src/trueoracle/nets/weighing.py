"""The weights of a site's units, as criteria see them."""

from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.nets.sites import HEADS, Cut, Kind, Role, Site


def unit_weights(net: nn.Module, site: Site) -> Tensor:
    """(U, P): all weights that make each unit, biases left out, in float64 on the CPU.

    They are the rows of every layer whose outputs the units are; of heads, which are whole little networks, the
    columns of the output projection too, and of experts and blocks all that they have.
    """
    if site.kind is Kind.BLOCK:
        return torch.stack([_all_of(net.get_submodule(name)) for name in site.blocks])
    parts = [
        _channels_first(net, cut)[torch.from_numpy(cut.channels_UC)].flatten(1)
        for cut in site.cuts
        if cut.role is Role.PRODUCER or (site.kind in HEADS and cut.role is Role.CONSUMER) or site.kind is Kind.EXPERT
    ]
    return torch.cat(parts, 1)


def _all_of(block: nn.Module) -> Tensor:
    """Every weight of a block, its vectors left out: they are biases and scales."""
    return torch.cat([weight.detach().double().cpu().flatten() for weight in block.parameters() if weight.ndim > 1])


def _channels_first(net: nn.Module, cut: Cut) -> Tensor:
    """(C, P): the weights of each channel of a side of a layer, or of a bare parameter."""
    parent, _, last = cut.layer.rpartition(".")
    layer: Any = getattr(net.get_submodule(parent), last)
    if isinstance(layer, Tensor):
        return layer.detach().double().cpu().movedim(cut.dim, 0).flatten(1)
    weight: Tensor = layer.weight.detach().double().cpu()
    if isinstance(layer, nn.Embedding):
        return weight.T
    transposed = getattr(layer, "transposed", False)
    if transposed and layer.groups > 1:
        weight = torch.cat(weight.chunk(layer.groups), 1)
    inputs_first = type(layer).__name__ == "Conv1D" or transposed
    return (weight if inputs_first is (cut.role is Role.CONSUMER) else weight.transpose(0, 1)).flatten(1)
