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
        return torch.stack([torch.cat([_exact(w).flatten() for w in _all_of(net, b, values)]) for b in site.blocks])
    parts = [
        _exact(_channels_first(net, cut, values))[torch.from_numpy(cut.channels_UC)].flatten(1)
        for cut in _own_cuts(site)
    ]
    return torch.cat(parts, 1)


def unit_moments(net: nn.Module, site: Site, values: Values) -> tuple[Tensor, Tensor]:
    """(U,) twice: the sum and the sum of squares of the numbers in the places of each unit's weights (see `unit_weights`).

    Float64 on the CPU, but summed in the numbers' own precision, or in float32 where that is less: a tenth of the time, and the
    error is that of the numbers.
    """
    if site.kind is Kind.BLOCK:
        blocks = (_all_of(net, block, values) for block in site.blocks)
        of_blocks = [_total([_moments(weight.reshape(1, -1)) for weight in block]) for block in blocks]
        sums, squares = zip(*of_blocks, strict=True)
        return torch.cat(sums), torch.cat(squares)
    parts = []
    for cut in _own_cuts(site):
        places_UC = torch.from_numpy(cut.channels_UC)
        sum_C, square_C = _moments(_channels_first(net, cut, values))
        parts.append((sum_C[places_UC].sum(1), square_C[places_UC].sum(1)))
    return _total(parts)


def _moments(x_CP: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) twice: sum and sum of squares, in float64 on the CPU."""
    x_CP = x_CP.to(torch.promote_types(x_CP.dtype, torch.float32))
    return _exact(x_CP.sum(1)), _exact(x_CP.square().sum(1))


def _total(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    sums, squares = zip(*parts, strict=True)
    return torch.stack(sums).sum(0), torch.stack(squares).sum(0)


def channel_weights(net: nn.Module, cut: Cut) -> Tensor:
    """(C, P): the weights of each channel of the side of a layer that is cut, in float64 on the CPU.

    A layer that has none, such as a BatchNorm without scales, gives P = 0.
    """
    return _exact(_channels_first(net, cut, None))


def _own_cuts(site: Site) -> list[Cut]:
    """The layers that hold what makes the units."""
    return [
        cut
        for cut in site.cuts
        if cut.role is Role.PRODUCER or (site.kind in HEADS and cut.role is Role.CONSUMER) or site.kind is Kind.EXPERT
    ]


def _exact(x: Tensor) -> Tensor:
    return x.double().cpu()


def _all_of(net: nn.Module, block: str, values: Values | None) -> list[Tensor]:
    """Every weight of a block, its vectors left out: they are biases and scales."""
    named = net.get_submodule(block).named_parameters(prefix=block)
    return [(weight if values is None else values[name]).detach() for name, weight in named if weight.ndim > 1]


def _channels_first(net: nn.Module, cut: Cut, values: Values | None) -> Tensor:
    """(C, P), as it lies."""
    parent, _, last = cut.layer.rpartition(".")
    layer: Any = getattr(net.get_submodule(parent), last)
    if isinstance(layer, Tensor):
        taken = layer if values is None else values[cut.layer]
        return _rows(taken.detach().movedim(cut.dim, 0))
    if layer.weight is None:
        return torch.empty(int(cut.channels_UC.max()) + 1, 0, dtype=torch.float64)
    weight: Tensor = (layer.weight if values is None else values[f"{cut.layer}.weight"]).detach()
    if isinstance(layer, nn.Embedding):
        return weight.T
    transposed = getattr(layer, "transposed", False)
    if transposed and layer.groups > 1:
        weight = torch.cat(weight.chunk(layer.groups), 1)
    inputs_first = type(layer).__name__ == "Conv1D" or transposed
    return _rows(weight if inputs_first is (cut.role is Role.CONSUMER) else weight.transpose(0, 1))


def _rows(channels_first: Tensor) -> Tensor:
    return channels_first.reshape(len(channels_first), -1)
