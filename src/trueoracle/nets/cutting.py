"""One layer made smaller: the channels of one of its sides go, with all that counts or describes them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from trueoracle.nets.experts import is_stack, tell_neurons
from trueoracle.nets.fewer_heads import tell_width
from trueoracle.nets.recurrent import is_recurrent, tell_sizes
from trueoracle.nets.sites import Role
from trueoracle.nets.weight_norm import Parts, parts_of, without

Tied = dict[tuple[int, int, tuple[int, ...]], tuple[Tensor, Tensor]]
"""Tensors that were cut, old and new by what was cut of them: what two layers share, they go on sharing. What was cut is
not cut again where a layer and its weight are both named."""


def cut_layer(net: nn.Module, name: str, role: Role, dim: int, channels: list[int], tied: Tied) -> None:
    """Take `channels` from the side of a layer of `net` that plays `role`; `dim` matters for a bare parameter or buffer."""
    parent_name, _, last = name.rpartition(".")
    parent = net.get_submodule(parent_name)
    layer = getattr(parent, last)
    if isinstance(layer, Tensor):
        _cut(parent, last, dim, channels, tied)
        _describe(parent)
        if isinstance(parent, nn.MultiheadAttention):
            tell_width(parent)
        if is_recurrent(parent):
            tell_sizes(parent, net.get_submodule(parent_name.rpartition(".")[0]))
        if is_stack(parent):
            tell_neurons(parent)
    elif isinstance(layer, _ConvNd):
        _cut_convolution(layer, role, channels, tied)
    elif isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D":
        _cut_linear(layer, role, channels, tied)
        if isinstance(parent, nn.MultiheadAttention):
            tell_width(parent)
    else:
        _cut_unit_by_unit(layer, dim, channels, tied)


def _cut(owner: nn.Module, name: str, dim: int, channels: list[int], tied: Tied) -> None:
    if name == "weight" and (parts := parts_of(owner)) is not None:
        _cut_normed(parts, dim, channels, tied)
        return
    old = getattr(owner, name, None)
    if not isinstance(old, Tensor):
        return
    key = (id(old), dim, tuple(channels))
    if key not in tied:
        _note(tied, dim, channels, old, old.detach().index_select(dim, _kept(old, dim, channels)))
    setattr(owner, name, tied[key][1])


def _cut_normed(parts: Parts, dim: int, channels: list[int], tied: Tied) -> None:
    olds = parts.values
    keys = [(id(old), dim, tuple(channels)) for old in olds]
    if keys[1] not in tied:
        for old, new in zip(olds, without(parts, dim, _kept(olds[1], dim, channels)), strict=True):
            _note(tied, dim, channels, old, new)
    for key, name in zip(keys, (parts.magnitude, parts.direction), strict=True):
        setattr(parts.owner, name, tied[key][1])
    with torch.no_grad():
        parts.recompute()


def _kept(old: Tensor, dim: int, channels: list[int]) -> Tensor:
    gone = set(channels)
    return torch.tensor([at for at in range(old.shape[dim]) if at not in gone], device=old.device, dtype=torch.long)


def _note(tied: Tied, dim: int, channels: list[int], old: Tensor, new: Tensor) -> None:
    made = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    tied[id(old), dim, tuple(channels)] = (old, made)
    tied[id(made), dim, tuple(channels)] = (made, made)


def _cut_convolution(layer: _ConvNd, role: Role, channels: list[int], tied: Tied) -> None:
    """A convolution in groups follows units that are whole groups: `channels` are outputs, the groups' inputs go along.

    Otherwise its groups go in step: each loses the same places.
    """
    transposed = isinstance(layer, _ConvTransposeNd)
    if layer.groups > 1 and role is Role.FOLLOWER:
        inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        groups = sorted({channel // outputs for channel in channels})
        width = inputs if transposed else outputs
        _cut(layer, "weight", 0, [group * width + at for group in groups for at in range(width)], tied)
        _cut(layer, "bias", 0, channels, tied)
        layer.groups -= len(groups)
        layer.in_channels, layer.out_channels = layer.groups * inputs, layer.groups * outputs
    elif role is Role.CONSUMER:
        places = channels if transposed else _places(channels, layer.in_channels // layer.groups)
        _cut(layer, "weight", 0 if transposed else 1, places, tied)
        layer.in_channels -= len(channels)
    else:
        places = _places(channels, layer.out_channels // layer.groups) if transposed else channels
        _cut(layer, "weight", 1 if transposed else 0, places, tied)
        _cut(layer, "bias", 0, channels, tied)
        layer.out_channels -= len(channels)


def _places(channels: list[int], width: int) -> list[int]:
    """Where channels lie within their groups."""
    return sorted({channel % width for channel in channels})


def _cut_linear(layer: nn.Module, role: Role, channels: list[int], tied: Tied) -> None:
    """A linear layer, or GPT-2's, whose weight lies transposed: (inputs, outputs)."""
    plain = isinstance(layer, nn.Linear)
    consumes = role is Role.CONSUMER
    _cut(layer, "weight", int(consumes is plain), channels, tied)
    if not consumes:
        _cut(layer, "bias", 0, channels, tied)
    size = ("in_features" if consumes else "out_features") if plain else ("nx" if consumes else "nf")
    setattr(layer, size, getattr(layer, size) - len(channels))


def _cut_unit_by_unit(layer: Any, dim: int, channels: list[int], tied: Tied) -> None:
    """A normalisation or the like: each channel has a number of its own in every tensor that it has."""
    if isinstance(layer, nn.GroupNorm):
        layer.num_groups -= len(channels) * layer.num_groups // layer.num_channels if layer.num_groups > 1 else 0
    for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if tensor.ndim:
            _cut(layer, name, dim, channels, tied)
    if isinstance(layer, nn.GroupNorm):
        layer.num_channels -= len(channels)
    elif isinstance(layer, _NormBase):
        layer.num_features -= len(channels)
    elif (
        isinstance(sizes := getattr(layer, "normalized_shape", None), tuple) and getattr(layer, "weight", None) is None
    ):
        layer.normalized_shape = tuple(size - len(channels) * (at == dim) for at, size in enumerate(sizes))
    _describe(layer)


def _describe(layer: Any) -> None:
    """Sizes that a module keeps beside its weight and that its forward pass reads."""
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor):
        if isinstance(getattr(layer, "normalized_shape", None), tuple | torch.Size):
            layer.normalized_shape = tuple(weight.shape)
        if isinstance(layer, nn.PReLU):
            layer.num_parameters = weight.numel()
        if isinstance(layer, nn.Embedding):
            layer.embedding_dim = weight.shape[1]
