"""A network with some of its units silent: what removal must equal, and shares nothing with.

A unit is silent where every layer that sums over units sees zeros in its place. Which numbers those are is not asked of
the sites but found by trial: where the units are made, they are set to NaN, and whatever has become NaN in front of a
layer that sums is the units' doing, and zero there. So neither the places nor the activations between a unit and what
sums over it need be known.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from trueoracle.nets import recurrent
from trueoracle.nets.flow import memory
from trueoracle.nets.operations import JOINT, reduced_dims
from trueoracle.nets.sites import HEADS, Kind, Normalisation, Role, Sites
from trueoracle.words.mask import Mask

SUMMING = {"linear": -1, "conv1d": -2, "conv2d": -3, "conv3d": -4,
            "conv_transpose1d": -2, "conv_transpose2d": -3, "conv_transpose3d": -4}  # fmt: skip
_PRODUCTS = ("matmul", "__matmul__", "mm", "addmm")


@contextmanager
def silenced(net: nn.Module, mask: Mask, sites: Sites) -> Iterator[None]:
    """While it lasts, `net` runs with the units that `mask` prunes silent."""
    made: dict[str, list[int]] = {}
    never: dict[str, list[int]] = {}
    given: list[tuple[Tensor, int, list[int]]] = []
    bare = dict([*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)])
    for part in mask.sites:
        site = sites.named(part.site)
        for cut in site.cuts:
            if cut.role is Role.PRODUCER:
                silent = never if site.kind is Kind.EXPERT else made
                silent.setdefault(cut.layer, []).extend(cut.channels(part.pruned))
            elif cut.role is Role.FOLLOWER and cut.layer in bare and site.kind not in (*HEADS, Kind.EXPERT):
                given.append((bare[cut.layer], cut.dim, cut.channels(part.pruned)))
    with _passed_by(net, mask, sites), _not_given(given), _where(net) as paths, _Silence(net, paths, made, never):
        yield


@contextmanager
def _not_given(places: list[tuple[Tensor, int, list[int]]]) -> Iterator[None]:
    """While it lasts, parameters are NaN in these places of a dimension: they may be all that there is of a unit."""
    whole = [(tensor, tensor.detach().clone()) for tensor, _, _ in places]
    with torch.no_grad():
        for tensor, dim, channels in places:
            tensor.index_fill_(dim, torch.tensor(channels, device=tensor.device), torch.nan)
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, values in reversed(whole):
                tensor.copy_(values)


@contextmanager
def _passed_by(net: nn.Module, mask: Mask, sites: Sites) -> Iterator[None]:
    """While it lasts, a pruned block gives back what it was given."""
    gone = {
        sites.named(part.site).blocks[unit]
        for part in mask.sites
        if sites.named(part.site).kind is Kind.BLOCK
        for unit in part.pruned
    }
    hooks = [net.get_submodule(name).register_forward_hook(_given_back, with_kwargs=True) for name in gone]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _given_back(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    given = args[0] if args else kwargs["hidden_states"]
    return (given, *output[1:]) if isinstance(output, tuple) else given


@contextmanager
def unnormalised(net: nn.Module, normalisations: Iterable[Normalisation]) -> Iterator[None]:
    """While it lasts, these normalisations of `net` leave out what they compute of several units."""
    left_out = set(normalisations)
    if not left_out:
        yield
        return
    with _where(net) as paths, _NoNorms(paths, left_out), _NoMoments(paths, left_out):
        yield


@contextmanager
def _where(net: nn.Module) -> Iterator[list[str]]:
    """The names of the modules whose forward passes run, the innermost last."""
    paths = [""]
    hooks = []
    for name, module in net.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: paths.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: _drop(paths), always_call=True))
    try:
        yield paths
    finally:
        for hook in hooks:
            hook.remove()


def _drop(paths: list[str]) -> None:
    paths.pop()


class _Silence(TorchFunctionMode):
    """Sets what layers make of the units to NaN, and what is NaN in front of a sum to zero.

    An expert is silent where the router gives it minus infinity, `never`: then it is not among those that are asked.
    """

    def __init__(
        self, net: nn.Module, paths: list[str], made: Mapping[str, list[int]], never: Mapping[str, list[int]]
    ) -> None:
        super().__init__()
        self.net, self.paths, self.made, self.never = net, paths, made, never
        parameters = dict(net.named_parameters(remove_duplicate=False))
        self.owners: dict[int, list[str]] = {}
        for name, parameter in parameters.items():
            self.owners.setdefault(memory(parameter), []).append(name.rpartition(".")[0])
        # Cuts name a parameter where it is no layer's weight alone; parts of it are used as weights.
        self.bare = {
            memory(parameters[name]): (name, parameters[name]) for name in (*made, *never) if name in parameters
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "embedding":
            return self._made(func(*args, **kwargs), args[1], -1)
        if name in _PRODUCTS and memory(args[-1]) in self.owners:  # also where it is transposed on the way
            *before, x, weight = args
            return self._made(func(*before, _heard(x, -1), weight, **kwargs), weight, -1)
        layer = self.net.get_submodule(self.paths[-1])
        if name in recurrent.FUNCTIONS and recurrent.is_plain(layer, args):
            return recurrent.step_by_step(layer, name, args, self._recurrent_product)
        if name not in SUMMING:
            return func(*args, **kwargs)
        dim, weight = SUMMING[name], args[1] if len(args) > 1 else kwargs["weight"]
        x, *rest = args or (kwargs.pop("input"),)
        groups = 1 if dim == -1 else args[6] if len(args) > 6 else kwargs.get("groups", 1)
        x = _heard(x, dim, groups)
        return self._made(func(x, *rest, **kwargs), weight, dim)

    def _recurrent_product(self, x: Tensor, weight: str) -> Tensor:
        layer = self.net.get_submodule(self.paths[-1])
        bias = getattr(layer, weight.replace("weight", "bias"), None)
        result = F.linear(_heard(x, -1), getattr(layer, weight), bias)
        return self._silent(result, f"{self.paths[-1]}.{weight}", 0, -1)

    def _made(self, result: Tensor, weight: Tensor, dim: int) -> Tensor:
        return self._silent(result, *self._layer(weight), dim)

    def _silent(self, result: Tensor, name: str, first: int, dim: int) -> Tensor:
        """The outputs of what cuts call `name`, of which the result has those from `first` on."""
        for silent, value in ((self.made, torch.nan), (self.never, -torch.inf)):
            channels = [c - first for c in silent.get(name, ()) if 0 <= c - first < result.shape[dim]]
            if channels:
                result = result.index_fill(dim, torch.tensor(channels, device=result.device), value)
        return result

    def _layer(self, weight: Tensor) -> tuple[str, int]:
        """What cuts call the layer with this weight, and which of its channels the weight begins with."""
        name, whole = self.bare.get(memory(weight), ("", None))
        if whole is None:  # of a weight that several layers have, the one that runs
            owners, path = self.owners.get(memory(weight), []), self.paths[-1]
            if not owners and f"{path}.weight" in {name for name, _ in self.bare.values()}:  # in another precision
                return f"{path}.weight", 0
            return path if path in owners or not owners else owners[0], 0
        return name, weight.storage_offset() // weight.stride(0) if weight.ndim == whole.ndim else 0


class _NoNorms(TorchFunctionMode):
    """Normalisations that are one function leave their numbers as they are, but for factors and offsets."""

    def __init__(self, paths: list[str], left_out: set[Normalisation]) -> None:
        super().__init__()
        self.paths = paths
        self.of_module = {(item.module, item.operation) for item in left_out}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, path = getattr(func, "__name__", ""), self.paths[-1]
        if name in ("layer_norm", "rms_norm") and (path, "layer_norm") in self.of_module:
            words = dict(zip(("input", "normalized_shape", "weight", "bias"), args, strict=False)) | kwargs
            return _affine(words["input"], words.get("weight"), words.get("bias"), -1)
        if name == "group_norm" and (path, "group_norm") in self.of_module:
            words = dict(zip(("input", "num_groups", "weight", "bias"), args, strict=False)) | kwargs
            return _affine(words["input"], words.get("weight"), words.get("bias"), 1)
        if name == "batch_norm" and (path, "weight") in self.of_module:
            return args[0]
        return func(*args, **kwargs)


class _NoMoments(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What is computed of several units is 1, be it a mean, a variance or a mean of squares, so that sizes stay."""

    def __init__(self, paths: list[str], left_out: set[Normalisation]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paths, self.left_out = paths, left_out

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name, path = func.overloadpacket.__name__, self.paths[-1]
        if name in JOINT and args[0].is_floating_point() and {
            Normalisation(path, name, reduced_dims(func, args, kwargs)), Normalisation(path, "weight")
        } & self.left_out:  # fmt: skip
            if name in ("_softmax", "_log_softmax"):
                return args[0].clone()
            return tree_map_only(Tensor, torch.ones_like if "arg" not in name else torch.zeros_like, result)
        return result


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, dim: int) -> Tensor:
    sizes = [-1] + [1] * (x.ndim - 2) if dim == 1 else []
    for tensor, product in ((weight, True), (bias, False)):
        if tensor is not None:
            shaped = tensor.view(sizes) if sizes else tensor
            x = x * shaped if product else x + shaped
    return x


def _heard(x: Tensor, dim: int, groups: int = 1) -> Tensor:
    """`x` with zeros in those channels that hold a NaN; where the layer sums in groups, not in groups that are all NaN."""
    silent = x.isnan().movedim(dim, 0).reshape(x.shape[dim], -1).any(1)
    if groups > 1:
        in_groups = silent.view(groups, -1)
        silent = (in_groups & ~in_groups.all(1, keepdim=True)).flatten()
    if not bool(silent.any()):
        return x
    shape = [1] * x.ndim
    shape[dim] = -1
    return x.masked_fill(silent.view(shape), 0)
