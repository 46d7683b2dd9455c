"""Is this a network of the LeNet5-Mini family? Then it is a chain of layers, each with its weights as arrays.

The family: three 5x5 convolutions on 32x32 images, ReLU after each, 2x2 max-pooling after the first two, then
linear layers with ReLU between them. Recognised by the modules and by what they compute, not by a name.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trueoracle.words.shape import InputShape

CONVOLUTIONS = 3
# Where a dense layer's values no longer fit the registers, its straight-line code is long and no longer fast.
_MOST_UNITS, _MOST_CLASSES = 32, 100


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`weight` is (units, inputs, places): 25 places for a convolution, 1 for a linear layer; float32."""

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def units(self) -> int:
        return int(self.weight.shape[0])


Chain = tuple[Layer, ...]


def find_chain(net: nn.Module, shape: InputShape) -> Chain | str:
    """The layers of `net` in forward order, or the reason, one line, why it is none of this family."""
    named = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    layers = [(name, module) for name, module in named if isinstance(module, nn.Conv2d | nn.Linear)]
    reason = _misfit(net, shape, [module for _, module in layers])
    if reason:
        return reason
    chain = tuple(_layer(name, module) for name, module in layers)
    return _too_wide(chain) or (chain if _computes_as(net, chain, shape) else "it does more than a chain of its layers")


def _misfit(net: nn.Module, shape: InputShape, layers: list[nn.Module]) -> str:
    if (shape.height, shape.width) != (32, 32):
        return f"it takes {shape}, not 32x32 images"
    kinds = [type(layer) for layer in layers]
    if len(layers) <= CONVOLUTIONS or kinds != [nn.Conv2d] * CONVOLUTIONS + [nn.Linear] * (len(layers) - CONVOLUTIONS):
        return "it is not three convolutions followed by linear layers"
    own = {id(parameter) for layer in layers for parameter in layer.parameters()}
    if any(id(parameter) not in own for parameter in net.parameters()) or next(net.buffers(), None) is not None:
        return "it has parameters or buffers besides those of convolutions and linear layers"
    if any(layer.bias is None for layer in layers):
        return "a layer has no bias"
    plain = {"kernel_size": (5, 5), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    if any(getattr(layer, key) != value for layer in layers[:CONVOLUTIONS] for key, value in plain.items()):
        return "a convolution is not a plain 5x5 one"
    inputs = [shape.channels, *(int(layer.weight.shape[0]) for layer in layers[:-1])]  # type: ignore[index]
    if inputs != [int(layer.weight.shape[1]) for layer in layers]:  # type: ignore[index]
        return "a layer does not take exactly what the one before it gives"
    return ""


def _too_wide(chain: Chain) -> str:
    wide = next((layer for layer in chain[1:-1] if layer.units > _MOST_UNITS), None)
    if wide is not None:
        return f"`{wide.name}` has {wide.units} units, more than {_MOST_UNITS}"
    if not 2 <= chain[-1].units <= _MOST_CLASSES:
        return f"it tells {chain[-1].units} classes apart, not 2 to {_MOST_CLASSES}"
    return ""


def _layer(name: str, module: nn.Module) -> Layer:
    def array(tensor: Tensor) -> NDArray[np.float32]:
        return tensor.detach().float().cpu().numpy().copy()

    weight = array(module.weight)  # type: ignore[arg-type]
    return Layer(name=name, weight=weight.reshape(*weight.shape[:2], -1), bias=array(module.bias))  # type: ignore[arg-type]


@torch.no_grad()
def _computes_as(net: nn.Module, chain: Chain, shape: InputShape) -> bool:
    """Whether `net` computes what a chain would, on noise of several strengths in float64."""
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(6, shape.channels, 32, 32, dtype=torch.float64, generator=noise)
    images *= torch.tensor([0.1, 0.5, 1, 2, 4, 8], dtype=torch.float64)[:, None, None, None]
    wide = deepcopy(net).cpu().double().eval()
    try:
        found = wide(images)
    except (RuntimeError, ValueError, TypeError):
        return False
    expected = forward(chain, images)
    return isinstance(found, Tensor) and found.shape == expected.shape and torch.allclose(found, expected, 1e-9, 1e-9)


def forward(chain: Chain, x: Tensor) -> Tensor:
    """Logits (B, K) of images (B, C, 32, 32), in the precision of the images: the family, written out."""
    for place, layer in enumerate(chain):
        weight, bias = torch.from_numpy(layer.weight).to(x), torch.from_numpy(layer.bias).to(x)
        if place < CONVOLUTIONS:
            x = F.relu(F.conv2d(x, weight.view(*weight.shape[:2], 5, 5), bias))
            x = F.max_pool2d(x, 2) if place < CONVOLUTIONS - 1 else x.flatten(1)
        else:
            x = F.linear(x, weight[:, :, 0], bias)
            x = F.relu(x) if place < len(chain) - 1 else x
    return x
