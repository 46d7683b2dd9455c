"""Which operations leave the units of a site apart, so that they can run before it is known which units go."""

import operator

from torch import fx, nn

from trueoracle.oracle.batched.graph import Traced

_LAYERS = (
    nn.CELU, nn.Dropout, nn.Dropout2d, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity,
    nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus,
    nn.Softsign, nn.Tanh,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.ZeroPad2d,
    nn.BatchNorm1d, nn.BatchNorm2d,
)  # fmt: skip
_WORDS = {
    "celu", "clamp", "clone", "contiguous", "dropout", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "logsigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d", "maxima_of_pairs",
}  # fmt: skip
BINARY = (operator.add, operator.sub, operator.mul, operator.truediv)


def keeps_apart(traced: Traced, node: fx.Node, channels: list[fx.Node]) -> bool:
    """Whether each unit's part of the result depends on the same unit's part of the inputs alone.

    `channels` are the inputs whose dimension 1 is a site's units. What an operation makes of a zero does not
    matter: units are left out where they are summed, not before.
    """
    if (layer := traced.called(node)) is not None:
        return _layer_keeps_apart(layer)
    if node.target in BINARY:
        return _joins_alike(traced, node, channels)
    tensors = [part for part in node.all_input_nodes if part in traced.row_shapes]
    if tensors != channels or node.args[:1] != (channels[0],):
        return False
    return _word(node) in _WORDS or _flattens(node) or _averages_pixels(traced, node)


def is_depthwise(layer: nn.Module | None) -> bool:
    """Whether it is a convolution of each channel by itself."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def is_relu(traced: Traced, node: fx.Node) -> bool:
    """Whether it is the operation that networks have most of and that gains most from being done in place."""
    return isinstance(traced.called(node), nn.ReLU) or (node.op != "call_module" and _word(node) == "relu")


def may_overwrite(traced: Traced, node: fx.Node, part: fx.Node) -> bool:
    """Whether a ReLU or sum may be written over its input `part`: a tensor made for it alone, of the result's shape."""
    if not (is_relu(traced, node) or node.target is operator.add) or len(part.users) > 1:
        return False
    fresh = isinstance(traced.called(part), nn.Conv2d | nn.Linear) or part.target in BINARY
    return fresh and traced.row_shapes.get(part) == traced.row_shapes[node]


def _layer_keeps_apart(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in _LAYERS or is_depthwise(layer)


def _joins_alike(traced: Traced, node: fx.Node, channels: list[fx.Node]) -> bool:
    numbers = all(isinstance(arg, fx.Node | int | float) for arg in node.args)
    shapes = {traced.row_shapes[part] for part in channels}
    return numbers and channels == node.all_input_nodes and len(shapes) == 1


def _flattens(node: fx.Node) -> bool:
    return _word(node) == "flatten" and (*node.args[1:], *node.kwargs.values()) in ((1,), (1, -1))


def _averages_pixels(traced: Traced, node: fx.Node) -> bool:
    if _word(node) != "mean" or len(traced.row_shapes[node.all_input_nodes[0]]) != 3:
        return False
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", ())
    return isinstance(dims, tuple | list) and set(dims) in ({2, 3}, {-1, -2})


def _word(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_method" else str(getattr(node.target, "__name__", ""))
