"""A network as a graph of operations: traced, BatchNorm folded into convolutions, nothing changed in place."""

import operator
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from trueoracle.nets.symbolic import traced
from trueoracle.nets.weight_norm import parts_of
from trueoracle.oracle.batched.refusal import CannotBatch
from trueoracle.words.shape import InputShape

# A number of images that is seldom another size too: a tensor with it in front is one value an image.
_EXAMPLES = 3
_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
_OPERATORS = {torch.add: operator.add, torch.sub: operator.sub, torch.mul: operator.mul, torch.div: operator.truediv}
_ALL_OF_A_POOLING = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}


@dataclass(frozen=True, kw_only=True)
class Traced:
    """The traced network, and of every operation whose result is a tensor with a row an image that row's shape."""

    module: fx.GraphModule
    row_shapes: dict[fx.Node, tuple[int, ...]]

    def called(self, node: fx.Node) -> nn.Module | None:
        """The layer that an operation calls, if it calls one."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None


def trace(net: nn.Module, shape: InputShape, unfolded: Collection[str] = ()) -> Traced:
    """A traced copy of `net` in eval mode; `CannotBatch` where its forward pass depends on values or writes in place.

    BatchNorm is folded into convolutions but for the `unfolded` ones.
    """
    copy = deepcopy(net).eval().requires_grad_(False)
    try:
        module = traced(copy)
    except Exception as error:  # whatever a user's forward pass raises when proxies run through it
        raise CannotBatch(f"torch.fx cannot trace {type(net).__name__}: {str(error).splitlines()[0]}") from None
    _leave_inputs_alone(module)
    _fold_batch_norms(module, unfolded)
    _halve_by_pairs(module)
    _flatten_by_name(module)
    module.graph.lint()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Traced(module=module, row_shapes=_row_shapes(module, shape))


def name_of(node: fx.Node) -> str:
    """What a user would call an operation: the layer's name, else the operation's in the traced graph."""
    return str(node.target) if node.op == "call_module" else node.name


def _leave_inputs_alone(module: fx.GraphModule) -> None:
    """What an operation reads may be shared by many masks, so none may write over it."""
    for layer in module.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]
    for node in module.graph.nodes:
        if node.op == "call_function":
            node.target = _OUT_OF_PLACE.get(node.target, node.target)
            if len(node.args) == 2 and not node.kwargs:
                node.target = _OPERATORS.get(node.target, node.target)
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        word = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        if node.op in ("call_method", "call_function") and word.endswith("_") and not word.endswith("__"):
            raise CannotBatch(f"`{node.name}` writes over its input ({word})")


def _fold_batch_norms(module: fx.GraphModule, unfolded: Collection[str]) -> None:
    """One pass over the activations less for each; a convolution that others read unnormalised keeps its own."""
    calls = [node.target for node in module.graph.nodes if node.op == "call_module"]
    for node in list(module.graph.nodes):
        if node.op != "call_module" or not isinstance(norm := module.get_submodule(node.target), nn.BatchNorm2d):
            continue
        if norm.running_mean is None:
            raise CannotBatch(f"`{node.target}` normalises by the batch at hand, having no running statistics")
        before = node.args[0]
        if before.op != "call_module" or len(before.users) > 1 or calls.count(before.target) > 1:
            continue
        if before.target in unfolded:
            continue
        conv = module.get_submodule(before.target)
        if isinstance(conv, nn.Conv2d) and not is_parametrized(conv) and parts_of(conv) is None:
            module.set_submodule(before.target, fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(before)
            module.graph.erase_node(node)
    module.recompile()


def maxima_of_pairs(x: Tensor) -> Tensor:
    """2x2 max-pooling, (B, C, H, W) -> (B, C, H // 2, W // 2): several times faster than the one that keeps indices."""
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    rows = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def _halve_by_pairs(module: fx.GraphModule) -> None:
    for node in module.graph.nodes:
        if node.op == "call_module" and isinstance(layer := module.get_submodule(node.target), nn.MaxPool2d):
            options = {name: getattr(layer, name) for name in _ALL_OF_A_POOLING} | {"kernel_size": layer.kernel_size}
        elif node.op == "call_function" and getattr(node.target, "__name__", "") == "max_pool2d":
            names = ("kernel_size", *_ALL_OF_A_POOLING)
            options = _ALL_OF_A_POOLING | dict(zip(names, node.args[1:], strict=False)) | node.kwargs
        else:
            continue
        size, stride = options.pop("kernel_size"), options.pop("stride")
        plain = all(options[name] == _ALL_OF_A_POOLING[name] for name in options)
        if plain and size in (2, (2, 2)) and stride in (None, 2, (2, 2)):
            node.op, node.target, node.args, node.kwargs = "call_function", maxima_of_pairs, node.args[:1], {}
    module.recompile()


def _flatten_by_name(module: fx.GraphModule) -> None:
    """`x.view(x.size(0), -1)` becomes `x.flatten(1)`, which holds for any number of masks and images."""
    for node in module.graph.nodes:
        reshapes = node.op == "call_method" and node.target in ("view", "reshape") and node.args[2:] == (-1,)
        if reshapes and _is_number_of_images(node.args[1]):
            node.target, node.args = "flatten", (node.args[0], 1)
    module.graph.eliminate_dead_code()
    module.recompile()


def _is_number_of_images(value: Any) -> bool:
    """Whether it is a tensor's `size(0)`, `size()[0]` or `shape[0]`."""
    if not isinstance(value, fx.Node):
        return False
    if value.target is operator.getitem:
        size, place = value.args
        return isinstance(size, fx.Node) and place in (0,) and (size.target == "size" or "shape" in size.args)
    return bool(value.target == "size") and value.args[1:] == (0,)


@torch.inference_mode()
def _row_shapes(module: fx.GraphModule, shape: InputShape) -> dict[fx.Node, tuple[int, ...]]:
    weight = next(module.parameters())
    images = torch.zeros(_EXAMPLES, shape.channels, shape.height, shape.width, dtype=weight.dtype, device=weight.device)
    found: dict[fx.Node, tuple[int, ...]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            of_images = n.op == "placeholder" or any(part in found for part in n.all_input_nodes)
            if of_images and isinstance(result, Tensor) and result.shape[:1] == (_EXAMPLES,):
                found[n] = tuple(result.shape[1:])
            return result

    Recorder(module).run(images)
    return found
