"""What the functions of layers do with channels: they are followed whole, by the parameters that they are given.

Letters: B examples, C channels, I inputs and O outputs of a layer, T tokens, D numbers of a head.
"""

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from trueoracle.nets import recurrent
from trueoracle.nets.fewer_heads import has_more
from trueoracle.nets.flow import Flow, Weight, present, spread, varying
from trueoracle.nets.sites import Normalisation, Role
from trueoracle.nets.ties import Side
from trueoracle.nets.weight_norm import parts_of

_OPAQUE = {
    "bilinear": "Bilinear",
    **dict.fromkeys(recurrent.FUNCTIONS, "recurrent layer on packed sequences or with computed weights"),
}  # fmt: skip


Given = dict[str, Any]
Rule = Callable[[Flow, Any, Given], None]


class LayerFunctions(TorchFunctionMode):
    """Follows the functions of layers; what they compute inside is nobody's concern."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        plain = name not in {*_OPAQUE, *_RULES, *_PRODUCTS}
        other = name in _TWO_SIGNATURES and not isinstance(func, FunctionType)
        if plain or other or (name in _PRODUCTS and self.flow.weight(args[-1]) is None):
            return func(*args, **kwargs)
        with _disable_current_modes():
            result = func(*args, **kwargs)
        if name in recurrent.FUNCTIONS and recurrent.is_plain(self.flow.module, args):
            recurrent.follow(self.flow, result, args)
        elif name in _OPAQUE:
            self.flow.hold(
                (args, kwargs),
                f"its units are tied to `{self.flow.path}`, and the inputs of a {_OPAQUE[name]} are not cut",
            )
        elif name in _PRODUCTS:
            _product(self.flow, result, args)
        else:
            rule, words = _RULES[name]
            given = {"transposed": "transpose" in name, **dict(zip(words, args, strict=False)), **kwargs}
            rule(self.flow, result, given)
        return result


def _linear(flow: Flow, result: Tensor, given: Given) -> None:
    x, weight = given["input"], given["weight"]
    if (sides := _sides(flow, x, weight, (1, 0))) is not None:
        flow.through(x, -1, sides[0])
        _make(flow, result, -1, sides[1], given.get("bias"))


def _product(flow: Flow, result: Tensor, operands: tuple[Tensor, ...]) -> None:
    """A product with a matrix that is a parameter, as in GPT-2's linear layer, whose weight is (inputs, outputs)."""
    x, weight = operands[-2:]
    if (sides := _sides(flow, x, weight, (0, 1))) is not None:
        flow.through(x, -1, sides[0])
        _make(flow, result, -1, sides[1], operands[0] if len(operands) == 3 else None)


def _convolution(flow: Flow, result: Tensor, given: Given) -> None:
    x, weight, groups = given["input"], given["weight"], given.get("groups", 1)
    if (sides := _sides(flow, x, weight, (0, 1) if given["transposed"] else (1, 0), groups)) is None:
        return
    dim, layer = 1 - weight.ndim, sides[0].layer
    if groups > 1 and not flow.is_known_layer(f"{layer}.weight"):
        flow.hold(x, f"its units are tied to `{layer}`, a parameter that convolves in groups")
    elif groups > 1 and layer not in flow.in_step:
        flow.ties.side(Side(layer, Role.FOLLOWER), result.shape[dim], flow.whole(weight), Role.FOLLOWER)
        _groups_apart(flow, result, x, dim, groups, layer)
    else:
        for side, channels in ((sides[0], x.shape[dim]), (sides[1], result.shape[dim])):
            rows = flow.ties.side(side, channels, flow.whole(weight), side.role).reshape(groups, -1)
            flow.ties.tie(np.broadcast_to(rows[:1], rows.shape), rows)
        flow.through(x, dim, sides[0])
        _make(flow, result, dim, sides[1], given.get("bias"))


def _groups_apart(flow: Flow, result: Tensor, x: Tensor, dim: int, groups: int, layer: str) -> None:
    """A convolution in groups works on each group by itself, so a whole group is a unit (depthwise: each channel)."""
    own = flow.ties.side(Side(layer, Role.FOLLOWER), result.shape[dim])
    first = own.reshape(groups, -1)[:, :1]
    flow.ties.tie(np.broadcast_to(first, (groups, len(own) // groups)), own.reshape(groups, -1))
    flow.through(x, dim, Side(layer, Role.FOLLOWER), np.repeat(first, x.shape[dim] // groups))
    spread(flow, result, dim, own)


def _batch_norm(flow: Flow, result: Tensor, given: Given) -> None:
    x = given["input"]
    layer = flow.layer(given.get("weight"), given.get("running_mean"))
    if layer is None and hasattr(flow.module, "num_features"):
        layer = flow.path
    if layer is not None and flow.resolved(x) is not None:
        flow.through(x, 1, Side(layer, Role.FOLLOWER))
    flow.put(result, flow.of(x))


def _prelu(flow: Flow, result: Tensor, given: Given) -> None:
    x, weight = given["input"], given["weight"]
    layer = flow.layer(weight)
    if layer is not None and weight.numel() > 1 and flow.resolved(x) is not None:
        flow.through(x, 1, Side(layer, Role.FOLLOWER))
    flow.put(result, flow.of(x))


def _layer_norm(flow: Flow, result: Tensor, given: Given) -> None:
    x, sizes = given["input"], given["normalized_shape"]
    dims = list(range(-len(sizes), 0))
    numbers = flow.resolved(x)
    if numbers is None:
        return
    changing = [dim for dim in dims if numbers.ndim + dim in varying(numbers)]
    flow.jointly(x, dims, "layer_norm")
    layer = flow.layer(given.get("weight")) or (flow.path if hasattr(flow.module, "normalized_shape") else None)
    if layer is not None and len(changing) == 1:
        flow.through(x, changing[0], Side(layer, Role.FOLLOWER, dim=changing[0] + len(dims)))
    elif layer is not None and changing:
        flow.hold(x, f"its units lie in more than one dimension of `{layer}`")
    flow.put(result, flow.of(x))


def _group_norm(flow: Flow, result: Tensor, given: Given) -> None:
    x, num_groups = given["input"], given["num_groups"]
    numbers = flow.resolved(x)
    if numbers is None:
        return
    if num_groups == 1:
        flow.jointly(x, list(range(1, x.ndim)), "group_norm")
    else:  # the numbers of a group are normalised together, so that it stays or goes as a whole
        in_groups = numbers.reshape(len(x), num_groups, -1)
        for group in in_groups.unbind(1):
            members = present(group)
            flow.ties.tie(np.broadcast_to(members[:1], members.shape), members)
            if bool((group == 0).any()):
                flow.ties.stuck.append(
                    (members, f"its units are normalised by {flow.here('group_norm')} with numbers that stay")
                )
    layer = flow.layer(given.get("weight")) or (flow.path if hasattr(flow.module, "num_groups") else None)
    if layer is not None:
        flow.through(x, 1, Side(layer, Role.FOLLOWER))
    flow.put(result, flow.of(x))


def _embedding(flow: Flow, result: Tensor, given: Given) -> None:
    weight = given["weight"]
    if (layer := flow.layer(weight)) is not None:
        spread(flow, result, -1, flow.ties.side(Side(layer, Role.PRODUCER, dim=1), weight.shape[1], weight, 1))


def _attention(flow: Flow, result: Tensor, given: Given) -> None:
    """Each number of a head's values stays apart; those of queries and keys are summed over, for all to share."""
    query, key, value = given["query"], given["key"], given["value"]
    flow.hold((query, key), f"its units are multiplied with each other by {flow.here('attention')}")
    numbers = flow.resolved(value)
    if numbers is None:
        return
    if value.ndim - 2 in varying(numbers) or value.shape[:-2] != result.shape[:-2]:
        flow.hold(value, f"{flow.here('attention')} mixes its units")
        return
    flow.put(result, numbers.narrow(-2, 0, 1).expand(result.shape))


def _multihead(flow: Flow, result: tuple[Tensor, ...], given: Given) -> None:
    """The width of the tokens comes in by one weight for queries, keys and values; heads lie between, and are no neurons."""
    layer, incoming = flow.module, Side(f"{flow.path}.in_proj_weight", Role.CONSUMER, 1)
    tokens = given["query"], given["key"], given["value"]
    if not isinstance(layer, nn.MultiheadAttention) or has_more(layer):
        flow.hold(tokens, f"its units are tied to `{flow.path}`, whose keys and values are of another size or more")
        return
    for x in tokens:
        flow.through(x, -1, incoming)
    spread(flow, result[0], -1, flow.ties.side(Side(f"{flow.path}.out_proj", Role.PRODUCER), result[0].shape[-1]))


def _sides(flow: Flow, x: Tensor, weight: Tensor, dims: tuple[int, int], groups: int = 1) -> tuple[Side, Side] | None:
    """Inputs and outputs of the layer whose weight it is, or whose own weight it was computed from, or of the parameter
    itself, where no layer holds it that is known, of these `dims`. Without any, nothing there is cut.
    """
    if (found := flow.weight(weight)) is not None:
        own = found.dims[dims[0]], found.dims[dims[1]]
        ways = zip((Role.CONSUMER, Role.PRODUCER), own, strict=True)
        if flow.is_known_layer(found.name) and own == _own_dims(flow, found):
            owner = found.name.rpartition(".")[0]
            sides = [Side(owner, role) for role, _ in ways]
        else:
            sides = [Side(found.name, role, dim) for role, dim in ways]
        if groups == 1:
            for side, dim in zip(sides, own, strict=True):
                flow.ties.side(side, found.whole.shape[dim], found.whole, dim)
        return sides[0], sides[1]
    if parts_of(flow.module) is not None and flow.module.weight.shape == weight.shape:
        return Side(flow.path, Role.CONSUMER), Side(flow.path, Role.PRODUCER)
    if (layer := flow.of_computed_weight(weight)) is not None:
        if (rows := flow.rows(x, 1 - weight.ndim)) is not None:
            flow.ties.normalised.append((present(rows), Normalisation(layer, "weight")))
        return Side(layer, Role.CONSUMER), Side(layer, Role.PRODUCER)
    where = f"`{flow.path}`" if flow.path else "the forward pass"
    flow.hold(
        x,
        f"its units are tied to {where}, whose weights are computed from other parameters; where that is a "
        "parametrization other than weight_norm, make it permanent (torch.nn.utils.parametrize.remove_parametrizations)",
    )
    return None


def _own_dims(flow: Flow, found: Weight) -> tuple[int, int]:
    """The dimensions of a known layer's weight that are its inputs and its outputs."""
    module = flow.named(found.name.rpartition(".")[0])
    turned = isinstance(module, _ConvTransposeNd) or not isinstance(module, _ConvNd | nn.Linear)
    return (0, 1) if turned else (1, 0)


def _make(flow: Flow, result: Tensor, dim: int, side: Side, bias: Tensor | None) -> None:
    """New channels; a bias that is a parameter of its own goes with them."""
    own = flow.ties.side(side, result.shape[dim])
    if bias is not None and not flow.is_known_layer(side.layer + ".weight"):
        places: Tensor | None = flow.of(bias)
        if places is None:
            flow.ties.stuck.append((own, f"its bias is computed from other parameters in {flow.here('linear')}"))
        else:
            flow.ties.tie(own, places.reshape(-1).numpy())
    spread(flow, result, dim, own)


_TWO_SIGNATURES = ("batch_norm", "instance_norm")
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_NORM = ("input", "running_mean", "running_var", "weight", "bias")
_SIZED_NORM = ("input", "normalized_shape", "weight", "bias")
_RULES: Mapping[str, tuple[Rule, tuple[str, ...]]] = {
    "linear": (_linear, ("input", "weight", "bias")),
    **{f"conv{pixels}d": (_convolution, _CONVOLUTION) for pixels in (1, 2, 3)},
    **{f"conv_transpose{pixels}d": (_convolution, _TRANSPOSED) for pixels in (1, 2, 3)},
    **dict.fromkeys(("batch_norm", "instance_norm"), (_batch_norm, _NORM)),
    **dict.fromkeys(("layer_norm", "rms_norm"), (_layer_norm, _SIZED_NORM)),
    "prelu": (_prelu, ("input", "weight")),
    "group_norm": (_group_norm, ("input", "num_groups", "weight", "bias")),
    "embedding": (_embedding, ("input", "weight")),
    "scaled_dot_product_attention": (_attention, ("query", "key", "value")),
    "multi_head_attention_forward": (_multihead, ("query", "key", "value")),
}
_PRODUCTS = ("matmul", "__matmul__", "mm", "addmm")
