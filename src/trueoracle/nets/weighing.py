"""The weights of a site's units, as criteria see them; or numbers that stand for weights, such as their gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.nets.sites import HEADS, Cut, Kind, Role, Site

Values = Mapping[str, Tensor]
"""Parameter name -> numbers of its shape, to be taken instead of the parameter's own."""


def unit_weights(net: nn.Module, site: Site, values: Values | None = None) -> Tensor:
    """(U, P): all weights that make each unit, or `values` in their places, biases left out, in float64 on the CPU.

    They are the rows of every layer whose outputs the units are; of heads, which are whole little networks, the
    columns of the output projection too, and of experts and blocks all that they have.
    """
    if site.kind is Kind.BLOCK:
        return torch.stack([_all_of(net, name, values) for name in site.blocks])
    parts = [
        _channels_first(net, cut, values)[torch.from_numpy(cut.channels_UC)].flatten(1)
        for cut in site.cuts
        if cut.role is Role.PRODUCER or (site.kind in HEADS and cut.role is Role.CONSUMER) or site.kind is Kind.EXPERT
    ]
    return torch.cat(parts, 1)


def channel_weights(net: nn.Module, cut: Cut) -> Tensor:
    """(C, P): the weights of each channel of the side of a layer that is cut, in float64 on the CPU.

    A layer that has none, such as a BatchNorm without scales, gives P = 0.
    """
    return _channels_first(net, cut, None)


def _all_of(net: nn.Module, block: str, values: Values | None) -> Tensor:
    """Every weight of a block, its vectors left out: they are biases and scales."""
    named = net.get_submodule(block).named_parameters(prefix=block)
    found = [weight if values is None else values[name] for name, weight in named if weight.ndim > 1]
    return torch.cat([weight.detach().double().cpu().flatten() for weight in found])


def _channels_first(net: nn.Module, cut: Cut, values: Values | None) -> Tensor:
    parent, _, last = cut.layer.rpartition(".")
    layer: Any = getattr(net.get_submodule(parent), last)
    if isinstance(layer, Tensor):
        taken = layer if values is None else values[cut.layer]
        return _rows(taken.detach().double().cpu().movedim(cut.dim, 0))
    if layer.weight is None:
        return torch.empty(int(cut.channels_UC.max()) + 1, 0, dtype=torch.float64)
    weight: Tensor = (layer.weight if values is None else values[f"{cut.layer}.weight"]).detach().double().cpu()
    if isinstance(layer, nn.Embedding):
        return weight.T
    transposed = getattr(layer, "transposed", False)
    if transposed and layer.groups > 1:
        weight = torch.cat(weight.chunk(layer.groups), 1)
    inputs_first = type(layer).__name__ == "Conv1D" or transposed
    return _rows(weight if inputs_first is (cut.role is Role.CONSUMER) else weight.transpose(0, 1))


def _rows(channels_first: Tensor) -> Tensor:
    return channels_first.reshape(len(channels_first), -1)
