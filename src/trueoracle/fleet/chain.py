"""Networks that are a chain: convolution, ReLU, pooling, flatten and linear layers, each fed by the one before.

Such a network is known by its structure alone, traced with torch.fx; names and classes of its modules do not matter.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from trueoracle.nets.symbolic import traced

Pair = tuple[int, int]
Size = tuple[int, int, int]


class NotAChain(Exception):
    """Why a network is no chain: the end of a sentence that begins with the network."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """A convolution, then ReLU and max-pooling over windows side by side where the network has them there.

    `entry` is the size (channels, height, width) of what comes in. A linear layer is a 1x1 convolution of a
    1x1 image. `weight` and `bias` are the parameters' names.
    """

    entry: Size
    outputs: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    relu: bool = False
    window: Pair = (1, 1)
    weight: str
    bias: str | None

    @property
    def cells(self) -> Pair:
        """Windows down and across; rows and columns of the convolution that fill no window are left out."""
        down, across = _windows(self.entry, self.kernel, self.stride, self.padding)
        return down // self.window[0], across // self.window[1]

    @property
    def grid(self) -> Pair:
        """Positions of the convolution down and across that pooling looks at."""
        return self.cells[0] * self.window[0], self.cells[1] * self.window[1]

    @property
    def exit(self) -> Size:
        """The size of what comes out."""
        return (self.outputs, *self.cells)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Pooling on its own: windows that overlap or reach over the border, or the mean instead of the maximum.

    `whole` counts the border's zeros in a mean.
    """

    entry: Size
    mean: bool
    kernel: Pair
    stride: Pair
    padding: Pair
    whole: bool = True

    @property
    def exit(self) -> Size:
        """The size of what comes out."""
        return (self.entry[0], *_windows(self.entry, self.kernel, self.stride, self.padding))


@dataclass(frozen=True, kw_only=True)
class Relu:
    """ReLU that follows no convolution."""

    entry: Size

    @property
    def exit(self) -> Size:
        """The size of what comes out."""
        return self.entry


Stage = Product | Pool | Relu


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The stages from image to logits."""

    stages: tuple[Stage, ...]

    @property
    def classes(self) -> int:
        """How many logits come out."""
        return prod(self.stages[-1].exit)


def find_chain(net: nn.Module, entry: Size) -> Chain:
    """The chain that `net` is on images of size `entry`; `NotAChain` says what in it is none."""
    try:
        graph = traced(net).graph
    except Exception as problem:
        raise NotAChain(f"cannot be traced ({type(problem).__name__})") from None
    stages: list[Stage] = []
    reader = _Reader(net, entry)
    previous: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "placeholder" and previous is None:
            previous = node
            continue
        if node.all_input_nodes != [previous]:
            raise NotAChain(f"has more than one path (at `{node.name}`)")
        if node.op == "output":
            break
        stage = reader.read(node)
        stages += [stage] if stage is not None else []
        previous = node
    _check_parameters(net, stages)
    if reader.size[1:] != (1, 1) or not reader.flat:
        raise NotAChain("does not end in one number a class")
    return Chain(stages=_fused(stages))


def _check_parameters(net: nn.Module, stages: list[Stage]) -> None:
    used = [name for stage in stages if isinstance(stage, Product) for name in (stage.weight, stage.bias) if name]
    if not used:
        raise NotAChain("has no layer with weights")
    named = dict(net.named_parameters())
    for name, parameter in named.items():
        if not parameter.requires_grad:
            raise NotAChain(f"has frozen weights (`{name}`)")
        if parameter.dtype != torch.float32:
            raise NotAChain(f"has weights that are no float32 (`{name}`)")
    if sorted(used) != sorted(named):
        raise NotAChain("uses some weights twice or never")


def _fused(stages: list[Stage]) -> tuple[Stage, ...]:
    """ReLU and side-by-side max-pooling become part of the convolution before them."""
    done: list[Stage] = []
    for stage in stages:
        last = done[-1] if done else None
        if isinstance(last, Product) and isinstance(stage, Relu):
            done[-1] = replace(last, relu=True)
        elif (
            isinstance(last, Product)
            and isinstance(stage, Pool)
            and last.window == (1, 1)
            and not stage.mean
            and stage.kernel == stage.stride
            and stage.padding == (0, 0)
        ):
            done[-1] = replace(last, window=stage.kernel)
        else:
            done.append(stage)
    return tuple(done)


class _Reader:
    """Reads one node after another, keeping the size of what flows."""

    def __init__(self, net: nn.Module, entry: Size) -> None:
        self.size, self.flat = entry, False
        self._net = net

    def read(self, node: fx.Node) -> Stage | None:
        """The stage of a node, or None where it computes nothing."""
        stage = self._module(str(node.target)) if node.op == "call_module" else self._call(node)
        if stage is not None:
            self.size = stage.exit
            if min(self.size) < 1:
                raise NotAChain(f"leaves nothing of the image (at `{node.name}`)")
        return stage

    def _module(self, name: str) -> Stage | None:
        module = self._net.get_submodule(name)
        match module:
            case nn.Conv2d():
                return self._convolution(name, module)
            case nn.Linear():
                if not self.flat or self.size[0] != module.in_features:
                    raise NotAChain(f"has a linear layer on what is not flat (`{name}`)")
                return Product(
                    entry=self.size, outputs=module.out_features, weight=f"{name}.weight", bias=_bias(name, module)
                )
            case nn.ReLU():
                return Relu(entry=self.size)
            case nn.MaxPool2d():
                return self._max_pool(
                    None, module.kernel_size, module.stride, module.padding, module.dilation,
                    module.ceil_mode, module.return_indices,
                )  # fmt: skip
            case nn.AvgPool2d():
                return self._average_pool(
                    None, module.kernel_size, module.stride, module.padding, module.ceil_mode,
                    module.count_include_pad, module.divisor_override,
                )  # fmt: skip
            case nn.Flatten():
                self._flatten(None, module.start_dim, module.end_dim)
                return None
            case nn.Identity():
                return None
        raise NotAChain(f"has a layer of another kind (`{type(module).__name__}`)")

    def _call(self, node: fx.Node) -> Stage | None:
        read = _CALLS.get(node.target)
        if read is None:
            raise NotAChain(f"does more than its layers do (`{node.name}`)")
        return read(self, *node.args, **node.kwargs)

    def _convolution(self, name: str, module: nn.Conv2d) -> Product:
        if module.groups != 1 or module.dilation != (1, 1):
            raise NotAChain(f"has a grouped or dilated convolution (`{name}`)")
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            raise NotAChain(f"has a convolution padded in another way than by a number of zeros (`{name}`)")
        if self.flat or self.size[0] != module.in_channels:
            raise NotAChain(f"has a convolution that does not fit (`{name}`)")
        return Product(
            entry=self.size,
            outputs=module.out_channels,
            kernel=_pair(module.kernel_size),
            stride=_pair(module.stride),
            padding=_pair(module.padding),
            weight=f"{name}.weight",
            bias=_bias(name, module),
        )

    def _relu(self, _input: Any, inplace: bool = False) -> Stage:  # noqa: ARG002
        return Relu(entry=self.size)

    def _max_pool(
        self,
        _input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Stage:
        if _pair(dilation) != (1, 1) or return_indices:
            raise NotAChain("has dilated pooling, or pooling that gives indices")
        return self._pool(False, kernel_size, stride, padding, ceil_mode)

    def _average_pool(
        self,
        _input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Stage:
        if divisor_override is not None:
            raise NotAChain("has a mean with a divisor of its own")
        return replace(self._pool(True, kernel_size, stride, padding, ceil_mode), whole=count_include_pad)

    def _pool(self, mean: bool, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> Pool:
        if ceil_mode or self.flat:
            raise NotAChain("has pooling that rounds up or that acts on no image")
        step = kernel if stride is None or stride == [] else stride
        return Pool(entry=self.size, mean=mean, kernel=_pair(kernel), stride=_pair(step), padding=_pair(padding))

    def _flatten(self, _input: Any, start_dim: int = 0, end_dim: int = -1) -> None:
        if start_dim != 1 or end_dim not in (-1, 3):
            raise NotAChain("flattens the batch or a part of the image")
        self.size, self.flat = (prod(self.size), 1, 1), True

    def _reshape(self, _input: Any, *shape: Any) -> None:
        if shape != (-1, prod(self.size)):
            raise NotAChain("reshapes in another way than to one row an image")
        self._flatten(None, 1)


# The functions of torch are many names for few things.
_CALLS: dict[Any, Callable[..., Stage | None]] = {
    F.relu: _Reader._relu,
    torch.relu: _Reader._relu,
    "relu": _Reader._relu,
    F.max_pool2d: _Reader._max_pool,
    torch.max_pool2d: _Reader._max_pool,
    F.avg_pool2d: _Reader._average_pool,
    torch.flatten: _Reader._flatten,
    "flatten": _Reader._flatten,
    "view": _Reader._reshape,
    "reshape": _Reader._reshape,
}


def _pair(value: Any) -> Pair:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return operator.index(first), operator.index(second)


def _bias(name: str, module: nn.Conv2d | nn.Linear) -> str | None:
    return None if module.bias is None else f"{name}.bias"


def _windows(entry: Size, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    down, across = (
        (size + 2 * p - k) // s + 1 for size, k, s, p in zip(entry[1:], kernel, stride, padding, strict=True)
    )
    return down, across
