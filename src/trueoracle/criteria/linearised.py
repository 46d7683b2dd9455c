"""The network as a product of the absolute values of its weights: what SynFlow and NISP send numbers through.

A copy in float64 in which every weight is its absolute value, every activation gives back what it is given, no layer adds
a bias, a normalisation multiplies with its scale alone (BatchNorm over its running deviation), and attention takes the
mean over all that it may see. Max-pooling stays, for it only chooses. Everything else is done as the network does it; where what comes
out does not grow in step with what goes in, the network is no such product, and is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trueoracle.criteria.refusal import CannotJudge
from trueoracle.criteria.whole import Whole
from trueoracle.nets.copying import twin
from trueoracle.nets.proof import seen_through
from trueoracle.nets.silence import SUMMING

_ACTIVATIONS = (
    "alpha_dropout", "celu", "clamp", "clamp_min", "dropout", "elu", "feature_dropout", "gelu", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu",
    "sigmoid", "silu", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
)  # fmt: skip
_NORMALISATIONS = {
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight"),
    "group_norm": ("input", "num_groups", "weight"),
    "layer_norm": ("input", "normalized_shape", "weight"),
    "rms_norm": ("input", "normalized_shape", "weight"),
}
_PER_CHANNEL = ("batch_norm", "instance_norm", "group_norm")
_EXACT = 1e-9


def linearised(whole: Whole) -> nn.Module:
    """The copy, to be run under `linearly`; `CannotJudge` where the network is no product of weights, or takes no images."""
    ones = torch.ones_like(whole.images(1)).double()
    net = seen_through(twin(whole.net)).double()
    for tensor in [*net.parameters(), *net.buffers()]:
        if tensor.is_floating_point():
            tensor.requires_grad_(False).abs_()
    with torch.no_grad(), linearly():
        none, once, twice = (float(net(factor * ones).sum()) for factor in (0.0, 1.0, 2.0))
    flow = once - none
    if not (0 < flow < float("inf")):
        raise CannotJudge(
            f"of absolute weights, without activations and biases, the network makes {flow:.4g} of ones: nothing flows"
        )
    if abs(twice - none - 2 * flow) > _EXACT * (abs(twice) + abs(none)):
        raise CannotJudge(
            "without activations and biases the network is still no product of weights: of twice the input it makes "
            f"{(twice - none) / flow:.10g} times as much"
        )
    return net


@contextmanager
def linearly() -> Iterator[None]:
    """While it lasts, networks run without activations, biases and what normalisations and attention compute of their input."""
    with _Linearly():
        yield


class _Linearly(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").rstrip("_")
        if name in _ACTIVATIONS:
            return args[0] if args else kwargs["input"]
        if name in _NORMALISATIONS:
            return _scaled(name, dict(zip(_NORMALISATIONS[name], args, strict=False)) | kwargs)
        if name == "softmax":
            x, *rest = args or (kwargs.pop("input"),)
            seen = x > torch.finfo(x.dtype).min / 2
            return func(torch.where(seen, torch.zeros_like(x), x), *rest, **kwargs)
        if name == "scaled_dot_product_attention":
            query, *rest = args or (kwargs.pop("query"),)
            return func(torch.zeros_like(query), *rest, **kwargs)
        if name in SUMMING:
            kwargs |= {"bias": None} if "bias" in kwargs else {}
            return func(*args[:2], *(None for _ in args[2:3]), *args[3:], **kwargs)
        if name == "addmm":
            return torch.mm(*args[1:3])
        return func(*args, **kwargs)


def _scaled(name: str, words: dict[str, Any]) -> Tensor:
    x: Tensor = words["input"]
    scale, variance = words.get("weight"), words.get("running_var") if name == "batch_norm" else None
    if variance is not None:
        root = (variance + words.get("eps", 1e-5)).sqrt()
        scale = 1 / root if scale is None else scale / root
    if scale is None:
        return x
    factor: Tensor = scale.view(-1, *[1] * (x.ndim - 2)) if name in _PER_CHANNEL else scale
    return x * factor
