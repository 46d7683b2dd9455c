"""Sites of transformers by the names of their layers: attention heads, and neurons where nothing can be traced.

Known are modules with linear `q_proj`, `k_proj`, `v_proj`, with `o_proj`, `out_proj` or `dense`, and a `head_dim` (ViT, DeiT,
BEiT, DINOv2, CLIP, SigLIP, Llama, Mistral, Qwen, Phi and their like), and GPT-2's packed `c_attn` with `c_proj`. Where
several query heads share a key/value head, the unit is that group.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trueoracle.nets.sites import Cut, Kind, Role, Site, Sites
from trueoracle.words.errors import ModelError

_OUTPUTS = ("o_proj", "out_proj", "dense")
_MLPS = (("gate_proj", "up_proj", "down_proj"), ("fc1", "fc2"), ("c_fc", "c_proj"))


def head_sites(net: nn.Module) -> Sites:
    """A site of heads for every attention module that is known; of other attention, why it is no site.

    Raises `ModelError` where the number of query heads is no multiple of the number of key/value heads.
    """
    found: dict[str, Site] = {}
    refused: dict[str, str] = {}
    for name, module in net.named_modules():
        made = _heads(name, module)
        if isinstance(made, Site):
            found[name] = made
        elif made is not None:
            refused[name] = made
    return Sites(found, refused)


def neuron_sites(net: nn.Module) -> Sites:
    """The hidden neurons of every MLP that is known by the names of its layers: gated, or two layers."""
    found: dict[str, Site] = {}
    for name, module in net.named_modules():
        for names in _MLPS:
            layers = dict(module.named_children())
            if all(is_linear(layers.get(layer)) for layer in names):
                site = _neurons([f"{name}.{layer}" for layer in names], outputs(layers[names[0]]))
                found[site.name] = site
    return Sites(found)


def is_linear(module: object) -> bool:
    """Whether it is a linear layer, GPT-2's `Conv1D` with its transposed weight included."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def outputs(layer: nn.Module) -> int:
    """The output channels of a linear layer."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.nf)  # type: ignore[arg-type]


def inputs(layer: nn.Module) -> int:
    """The input channels of a linear layer."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.nx)  # type: ignore[arg-type]


def _heads(name: str, module: nn.Module) -> Site | str | None:
    """The site, or why the attention module is none, or None where it is no attention."""
    layers = dict(module.named_children())
    out = next((name for name in _OUTPUTS if name in layers), "")
    if isinstance(module, nn.MultiheadAttention):
        return "the heads of torch's MultiheadAttention cannot be removed; write it with q_proj, k_proj, v_proj, o_proj"
    if {"q_proj", "k_proj", "v_proj", out} <= layers.keys():
        return _apart(name, module, [layers[part] for part in ("q_proj", "k_proj", "v_proj", out)], out)
    if {"c_attn", "c_proj"} <= layers.keys():
        return _packed(name, module)
    if {"query", "key", "value"} <= layers.keys():
        return "its heads are not known by names: they need linear q_proj, k_proj, v_proj, o_proj and a head_dim"
    return None


def _apart(name: str, module: nn.Module, layers: list[nn.Module], out: str) -> Site | str:
    query, key, value, output = layers
    head_dim = getattr(module, "head_dim", None)
    if not all(map(is_linear, layers)) or not isinstance(head_dim, int):
        return "its projections are not linear layers, or it has no head_dim"
    heads, groups = outputs(query) // head_dim, outputs(key) // head_dim
    if outputs(value) != outputs(key) or inputs(output) != outputs(query):
        return "its keys and values, or its queries and the output projection, differ in size"
    if heads % groups:
        raise ModelError(
            f"`{name}` has {heads} query heads and {groups} key/value heads: the first must be a multiple of the "
            "second, for whole groups are pruned"
        )
    if (other := _other_parameter(module, layers, head_dim, {heads, groups, outputs(query), outputs(key)})) is not None:
        return f"its parameter `{other}` belongs to heads too, in a way that is not known"
    cuts = [
        Cut(layer=f"{name}.{part}", role=Role.PRODUCER, channels_UC=_even(outputs(layer), groups))
        for part, layer in zip(("q_proj", "k_proj", "v_proj"), layers, strict=False)
    ]
    cuts.append(Cut(layer=f"{name}.{out}", role=Role.CONSUMER, channels_UC=_even(inputs(output), groups)))
    return Site(name=name, kind=Kind.HEAD if heads == groups else Kind.HEAD_GROUP, units=groups, cuts=tuple(cuts))


def _packed(name: str, module: nn.Module) -> Site | str:
    packed, output = module.c_attn, module.c_proj
    heads, width = getattr(module, "num_heads", 0), inputs(output)  # type: ignore[arg-type]
    if not heads or outputs(packed) != 3 * width or width % heads:  # type: ignore[arg-type]
        return "its packed projection is not queries, keys and values of one size, as in self-attention"
    one = _even(width, heads)
    cuts = (
        Cut(
            layer=f"{name}.c_attn",
            role=Role.PRODUCER,
            channels_UC=np.concatenate([one, one + width, one + 2 * width], axis=1),
        ),
        Cut(layer=f"{name}.c_proj", role=Role.CONSUMER, channels_UC=one),
    )
    return Site(name=name, kind=Kind.HEAD, units=heads, cuts=cuts)


def _other_parameter(module: nn.Module, layers: list[nn.Module], head_dim: int, sizes: set[int]) -> str | None:
    """A parameter beside the projections with a dimension for each head, such as a table of biases."""
    own = {id(parameter) for layer in layers for parameter in layer.parameters()}
    others: Iterator[tuple[str, nn.Parameter]] = (
        (name, parameter) for name, parameter in module.named_parameters() if id(parameter) not in own
    )
    return next((name for name, other in others if (sizes - {head_dim}) & set(other.shape)), None)


def _neurons(names: list[str], units: int) -> Site:
    *producers, consumer = names
    one = _even(units, units)
    cuts = [Cut(layer=producer, role=Role.PRODUCER, channels_UC=one) for producer in producers]
    cuts.append(Cut(layer=consumer, role=Role.CONSUMER, channels_UC=one))
    return Site(name=producers[0], kind=Kind.NEURON, units=units, cuts=tuple(cuts))


def _even(channels: int, units: int) -> NDArray[np.int64]:
    """(U, C): the channels in order, as many for each unit."""
    return np.arange(channels, dtype=np.int64).reshape(units, -1)
