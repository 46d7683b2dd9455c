"""The weights of a site's units, as criteria see them."""

import torch
from torch import Tensor, nn

from trueoracle.nets.sites import HEADS, Role, Site


def unit_weights(net: nn.Module, site: Site) -> Tensor:
    """(U, P): all weights that make each unit, biases left out, in float64 on the CPU.

    They are the rows of every layer whose outputs the units are; of heads, which are whole little networks, the
    columns of the output projection too.
    """
    parts = [
        _channels_first(net.get_submodule(cut.layer), cut.role)[torch.from_numpy(cut.channels_UC)].flatten(1)
        for cut in site.cuts
        if cut.role is Role.PRODUCER or (site.kind in HEADS and cut.role is Role.CONSUMER)
    ]
    return torch.cat(parts, 1)


def _channels_first(layer: nn.Module, role: Role) -> Tensor:
    weight: Tensor = layer.weight.detach().double().cpu()  # type: ignore[operator]
    inputs_first = type(layer).__name__ == "Conv1D" or getattr(layer, "transposed", False)
    return (weight if inputs_first is (role is Role.CONSUMER) else weight.transpose(0, 1)).flatten(1)
