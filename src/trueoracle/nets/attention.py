"""Attention heads, by the names of the layers that make them.

Where several query heads share a key/value head, the unit is that group. A layout says which channels of which layers
belong to a head; that nothing else does is left to the proof (`trueoracle.nets.proof`).

Letters: U units, C channels of a layer that one unit owns.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trueoracle.nets.fewer_heads import has_more
from trueoracle.nets.linear import inputs, is_linear, outputs
from trueoracle.nets.sites import Cut, Kind, Role, Site
from trueoracle.words.errors import ModelError

_QUERIES_KEYS_VALUES = (
    ("q_proj", "k_proj", "v_proj"),  # ViT, DINOv2, CLIP, Swin, SegFormer, Llama, Mistral, Qwen, Gemma, Phi, OPT
    ("query", "key", "value"),  # BERT, Swinv2, PVT, MobileViT, Data2Vec
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
    ("projection_query", "projection_key", "projection_value"),  # CvT
)
_OUTPUTS = ("o_proj", "out_proj", "out_lin", "dense")
_OUTPUT_BESIDE = "output.dense"  # of the module around, in BERT and its like
_HEAD_SIZES = ("head_dim", "attention_head_size", "head_size")
_HEADS = ("num_heads", "num_attention_heads", "n_heads")
# Tensors with a number for each head along a dimension.
_A_NUMBER_A_HEAD = {"relative_position_bias_table": 1, "logit_scale": 0, "attention_biases": 0, "sinks": 0}
_LOTS = 4

Found = Site | str | None
"""The site, or why the attention module is none, or None where it is no attention."""


def heads(net: nn.Module, name: str) -> Found:
    """The heads of the module of this name.

    Raises `ModelError` where the number of query heads is no multiple of the number of key/value heads.
    """
    module = net.get_submodule(name)
    found = (layout(net, name, module) for layout in _LAYOUTS)
    return next((one for one in found if one is not None), None)


def _torchs_own(_net: nn.Module, name: str, module: nn.Module) -> Found:
    if not isinstance(module, nn.MultiheadAttention):
        return None
    if has_more(module):
        return "its keys and values are of another size than its queries, or it adds some of its own"
    width = module.num_heads * module.head_dim
    rows = _blocks(width, module.num_heads)
    three = np.concatenate([rows, rows + width, rows + 2 * width], axis=1)
    cuts = [Cut(layer=f"{name}.in_proj_weight", role=Role.PRODUCER, channels_UC=three, dim=0)]
    if module.in_proj_bias is not None:
        cuts.append(Cut(layer=f"{name}.in_proj_bias", role=Role.FOLLOWER, channels_UC=three, dim=0))
    cuts.append(Cut(layer=f"{name}.out_proj", role=Role.CONSUMER, channels_UC=rows))
    return Site(name=name, kind=Kind.HEAD, units=module.num_heads, cuts=tuple(cuts))


def _apart(net: nn.Module, name: str, module: nn.Module) -> Found:
    """Queries, keys and values by a layer each."""
    parts = next((parts for parts in _QUERIES_KEYS_VALUES if all(hasattr(module, part) for part in parts)), None)
    out = _output(net, name, module)
    if parts is None or out is None:
        return None
    query, key, value = (getattr(module, part) for part in parts)
    head_dim = _head_size(module)
    if not all(map(is_linear, (query, key, value, net.get_submodule(out)))) or head_dim is None:
        return "its projections are not linear layers, or it says no size of a head"
    if outputs(query) % head_dim or outputs(key) % head_dim:
        return f"its queries or keys are no multiple of its head_dim, {head_dim}"
    if outputs(value) != outputs(key) or inputs(net.get_submodule(out)) != outputs(query):
        return "its keys and values, or its queries and the output projection, differ in size"
    count, groups = outputs(query) // head_dim, outputs(key) // head_dim
    if count % groups:
        raise ModelError(
            f"`{name}` has {count} query heads and {groups} key/value heads: the first must be a multiple of the "
            "second, for whole groups are pruned"
        )
    made = [(f"{name}.{part}", _blocks(outputs(getattr(module, part)), groups)) for part in parts]
    return _site(net, name, made, (out, _blocks(outputs(query), groups)), shared=count != groups)


def _in_a_row(net: nn.Module, name: str, module: nn.Module) -> Found:
    """All queries, then all keys, then all values, in one layer: GPT-2, Phi-3, MPT, ModernBERT."""
    for packed, out in (("c_attn", "c_proj"), ("qkv_proj", "o_proj"), ("Wqkv", "out_proj"), ("Wqkv", "Wo")):
        if not (hasattr(module, packed) and hasattr(module, out)):
            continue
        width, rows = inputs(getattr(module, out)), outputs(getattr(module, packed))
        groups = _groups(module, width)
        if groups is None or (rows - width) % (2 * groups) or width % groups:
            return "its packed projection is not queries, keys and values of one size, as in self-attention"
        keys = (rows - width) // 2
        queries_UC, keys_UC = _blocks(width, groups), _blocks(keys, groups) + width
        made_UC = np.concatenate([queries_UC, keys_UC, keys_UC + keys], axis=1)
        return _site(net, name, [(f"{name}.{packed}", made_UC)], (f"{name}.{out}", queries_UC), shared=keys != width)
    return None


def _in_lots(net: nn.Module, name: str, module: nn.Module) -> Found:
    """In one layer four lots, as of four machines, each with queries, values and keys of its heads: CodeGen.

    The lots stay of one size, so a unit is a head of each.
    """
    if not (hasattr(module, "qkv_proj") and hasattr(module, "out_proj")):
        return None
    width, head_dim = inputs(module.out_proj), _head_size(module)  # type: ignore[arg-type]
    if head_dim is None or width % (_LOTS * head_dim) or outputs(module.qkv_proj) != 3 * width:  # type: ignore[arg-type]
        return f"its packed projection is not {_LOTS} lots of queries, values and keys"
    units = width // (_LOTS * head_dim)
    made_UC = (
        _blocks(3 * width, _LOTS * 3 * units).reshape(_LOTS * 3, units, head_dim).swapaxes(0, 1).reshape(units, -1)
    )
    out_UC = _blocks(width, _LOTS * units).reshape(_LOTS, units, head_dim).swapaxes(0, 1).reshape(units, -1)
    return _site(net, name, [(f"{name}.qkv_proj", made_UC)], (f"{name}.out_proj", out_UC))


def _latent(net: nn.Module, name: str, module: nn.Module) -> Found:
    """Keys and values of all heads from one latent vector, queries too or from the tokens: DeepSeek."""
    query = next((part for part in ("q_b_proj", "q_proj") if is_linear(getattr(module, part, None))), None)
    if query is None or not (hasattr(module, "kv_b_proj") and hasattr(module, "o_proj")):
        return None
    count = getattr(module, "num_heads", None)
    layers = [f"{name}.{part}" for part in (query, "kv_b_proj")]
    sizes = [*(outputs(net.get_submodule(layer)) for layer in layers), inputs(module.o_proj)]  # type: ignore[arg-type]
    if not isinstance(count, int) or any(size % count for size in sizes):
        return "it says no number of heads that divides its projections"
    made = [(layer, _blocks(size, count)) for layer, size in zip(layers, sizes, strict=False)]
    return _site(net, name, made, (f"{name}.o_proj", _blocks(sizes[-1], count)))


def _by_head(net: nn.Module, name: str, module: nn.Module) -> Found:
    """Queries, keys and values of one head after those of the other, in one layer: GPT-NeoX, BLOOM, Falcon."""
    if not (hasattr(module, "query_key_value") and hasattr(module, "dense")):
        return None
    rows, width = outputs(module.query_key_value), inputs(module.dense)  # type: ignore[arg-type]
    head_dim = _head_size(module)
    if head_dim is None or width % head_dim:
        return "it says no size of a head"
    count = width // head_dim
    if rows == width + 2 * head_dim and count > 1:  # one key/value head for all, which stays
        queries_UC = _blocks(width, count)
        return _site(net, name, [(f"{name}.query_key_value", queries_UC)], (f"{name}.dense", queries_UC))
    groups = (rows - width) // (2 * head_dim)
    if groups < 1 or count % groups or rows != width + 2 * groups * head_dim:
        return "its packed projection is not queries, keys and values, head by head"
    made_UC, out_UC = _blocks(rows, groups), _blocks(width, groups)
    return _site(net, name, [(f"{name}.query_key_value", made_UC)], (f"{name}.dense", out_UC), shared=count != groups)


def _levit(net: nn.Module, name: str, module: nn.Module) -> Found:
    """LeViT: linear layers with a BatchNorm each; keys and queries are narrower than values."""
    made = [part for part in ("queries_keys_values", "keys_values", "queries") if hasattr(module, part)]
    if not made or not hasattr(module, "attention_biases"):
        return None
    count = int(module.num_attention_heads)  # type: ignore[arg-type]
    parts = [
        (f"{name}.{part}.linear", _blocks(outputs(net.get_submodule(f"{name}.{part}.linear")), count)) for part in made
    ]
    out = f"{name}.projection.linear"
    norms = [
        Cut(layer=f"{name}.{part}.batch_norm", role=Role.FOLLOWER, channels_UC=channels_UC, dim=0)
        for part, (_, channels_UC) in zip(made, parts, strict=True)
    ]
    return _site(net, name, parts, (out, _blocks(inputs(net.get_submodule(out)), count)), more=norms)


_LAYOUTS: tuple[Callable[[nn.Module, str, nn.Module], Found], ...] = (
    *(_torchs_own, _apart, _in_a_row, _in_lots, _latent, _by_head, _levit),
)


def _site(
    net: nn.Module,
    name: str,
    made: list[tuple[str, NDArray[np.int64]]],
    out: tuple[str, NDArray[np.int64]],
    *,
    shared: bool = False,
    more: list[Cut] | None = None,
) -> Site:
    units = len(out[1])
    cuts = [Cut(layer=layer, role=Role.PRODUCER, channels_UC=channels_UC) for layer, channels_UC in made]
    cuts += more or []
    cuts += _a_number_a_head(net, name, units)
    cuts.append(Cut(layer=out[0], role=Role.CONSUMER, channels_UC=out[1]))
    return Site(name=name, kind=Kind.HEAD_GROUP if shared else Kind.HEAD, units=units, cuts=tuple(cuts))


def _a_number_a_head(net: nn.Module, name: str, units: int) -> list[Cut]:
    """What else of the module, or of the layer around it, has a number for each head."""
    around = name.rpartition(".")[0]
    cuts = []
    for parameter_name, parameter in net.named_parameters():
        parent, _, last = parameter_name.rpartition(".")
        dim = _A_NUMBER_A_HEAD.get(last)
        near = parent in (name, around) or parent.rpartition(".")[0] in (name, around)
        if dim is not None and near and parameter.shape[dim] % units == 0:
            channels_UC = _blocks(parameter.shape[dim], units)
            cuts.append(Cut(layer=parameter_name, role=Role.FOLLOWER, channels_UC=channels_UC, dim=dim))
    small = getattr(net.get_submodule(name), "continuous_position_bias_mlp", None)  # Swinv2
    if isinstance(small, nn.Sequential):
        last_layer = f"{name}.continuous_position_bias_mlp.{len(small) - 1}"
        cuts.append(Cut(layer=last_layer, role=Role.FOLLOWER, channels_UC=_blocks(outputs(small[-1]), units)))
    return cuts


def _output(net: nn.Module, name: str, module: nn.Module) -> str | None:
    """The name of the layer that sums over the heads."""
    beside = f"{name.rpartition('.')[0]}.{_OUTPUT_BESIDE}"
    own = next((f"{name}.{out}" for out in _OUTPUTS if hasattr(module, out)), None)
    return own or (beside if beside in dict(net.named_modules()) else None)


def _head_size(module: Any) -> int | None:
    own = next((size for word in _HEAD_SIZES if isinstance(size := getattr(module, word, None), int)), None)
    if own is None and isinstance(getattr(module, "embed_dim", None), int):
        count = next((count for word in _HEADS if isinstance(count := getattr(module, word, None), int)), 0)
        return int(module.embed_dim) // count if count else None
    return own


def _groups(module: Any, width: int) -> int | None:
    """Key/value heads of a module that packs all in a row."""
    groups = getattr(module, "num_key_value_heads", None) or getattr(module, "num_heads", None)
    if isinstance(groups, int):
        return groups
    size = _head_size(module)
    return width // size if size else None


def _blocks(channels: int, units: int) -> NDArray[np.int64]:
    """(U, C): the channels in order, as many for each unit."""
    return np.arange(channels, dtype=np.int64).reshape(units, -1)
