"""Networks some of whose weights are held at zero: nothing is smaller, and nothing that trains them may fill the zeros.

The mask travels with the network: beside each masked weight a buffer says which of them are kept, so that copies, stacks,
checkpoints and devices take it along. Whoever trains such a network masks the gradients (`kept_weights`): a weight at zero
whose gradient is zero stays at zero, under momentum and decay alike, to the bit.
"""

from collections import Counter
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from trueoracle.nets.copying import twin
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import WeightMask

_KEPT = "kept_weights"
_LISTED = 12


def weight_shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Layer -> shape of its weights, inputs last, for every linear layer and convolution in the order of the modules.

    Left out are weights that are computed of others (weight normalisation) and those that several layers share.
    """
    uses = Counter(id(p) for module in net.modules() for p in module._parameters.values() if p is not None)
    return {
        name: tuple(_inputs_last(layer, weight).shape)
        for name, layer in net.named_modules()
        if isinstance(layer, (nn.Linear, _ConvNd))
        and isinstance(weight := layer._parameters.get("weight"), Tensor)
        and uses[id(weight)] == 1
    }


def layers_called(pattern: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The layers that a name or a glob stands for; `ModelError` where it is none."""
    found = {name: shape for name, shape in shapes.items() if name == pattern or fnmatchcase(name, pattern)}
    if not found:
        names = list(shapes)
        known = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
        raise ModelError(f"no layer with weights of its own is called `{pattern}`: known are {known or 'none'}")
    return found


@torch.no_grad()
def mask_weights(net: nn.Module, mask: WeightMask) -> nn.Module:
    """A copy of `net` in eval mode with the weights that `mask` prunes at zero, and the mask beside them."""
    masked = twin(net).eval()
    for name, gone in mask.gone_by_layer.items():
        layer = masked.get_submodule(name)
        weight = layer._parameters["weight"]
        assert weight is not None
        kept = _inputs_back(layer, ~torch.from_numpy(gone.copy())).to(weight.device)
        weight.copy_(torch.where(kept, weight, torch.zeros_like(weight)))  # a product would leave -0
        layer.register_buffer(_KEPT, kept.contiguous())
    return masked


def kept_weights(net: nn.Module) -> dict[str, Tensor]:
    """Parameter -> which of its numbers are kept, for every weight that a mask holds at zero in part."""
    found = {}
    for name, layer in net.named_modules():
        kept = layer._buffers.get(_KEPT)
        if kept is not None:
            found[f"{name}.weight" if name else "weight"] = kept
    return found


def unmasked(net: nn.Module) -> nn.Module:
    """A copy without masks: the zeros stay, but nothing holds them."""
    free = twin(net)
    for layer in free.modules():
        layer._buffers.pop(_KEPT, None)
    return free


def in_order(layer: nn.Module, of_weights: Tensor) -> Tensor:
    """Numbers that belong to the weights of a layer, laid out flat as in a mask: inputs last."""
    return _inputs_last(layer, of_weights).flatten()


def _inputs_last(layer: nn.Module, weight: Tensor) -> Tensor:
    return weight.movedim(0 if isinstance(layer, _ConvTransposeNd) else 1, -1)


def _inputs_back(layer: nn.Module, weight: Tensor) -> Tensor:
    return weight.movedim(-1, 0 if isinstance(layer, _ConvTransposeNd) else 1)
