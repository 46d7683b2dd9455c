"""What PyTorch's operations do with the channels of what they are given."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from trueoracle.nets.flow import Flow, varying

_SAME = {"clone", "contiguous", "detach", "alias", "lift_fresh", "_to_copy", "zeros_like", "ones_like", "empty_like",
         "full_like", "rand_like", "randn_like", "native_dropout", "lift_fresh_copy", "_to_dense", "positive"}  # fmt: skip
_MOVES = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "expand", "slice", "select",
    "split", "split_with_sizes", "unbind", "squeeze", "unsqueeze", "cat", "stack", "flip", "roll", "index",
    "index_select", "gather", "repeat", "unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "diagonal", "rot90", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", "numpy_T",
    "repeat_interleave", "take_along_dim", "as_strided", "unflatten",
}  # fmt: skip
JOINT = {
    "mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "norm", "linalg_vector_norm", "max", "min",
    "prod", "logsumexp", "argmax", "argmin", "_softmax", "_log_softmax", "median", "any", "all", "nansum",
}  # fmt: skip
_SHAPE_KEEPING = {"_softmax", "_log_softmax"}
_POINTWISE = {"_prelu_kernel", "hardswish", "log_sigmoid_forward", "rsub", "masked_fill", "softplus"}
_FACTORIES = {"zeros", "ones", "empty", "full", "new_zeros", "new_ones", "new_empty", "new_full", "empty_strided"}


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows what PyTorch computes, operation by operation."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flow = flow

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.overloadpacket.__name__ == "_to_copy":
            self.flow.cast(result, args[0])
        if func.overloadpacket.__name__ not in _FACTORIES:
            self._follow(func, args, kwargs, result)
        elif isinstance(result, Tensor) and result.is_floating_point():
            self.flow.put(result, torch.zeros(result.shape, dtype=torch.long))
        return result

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        flow, name = self.flow, func.overloadpacket.__name__
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if all(flow.of(tensor) is None for tensor in tensors):
            return
        results = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        if name in _MOVES:
            _move(flow, func, args, kwargs, result)
        elif name in JOINT:
            _reduce(flow, func, args, kwargs, results, name)
        elif name in _OTHERS:
            _OTHERS[name](flow, args, results[0], name)
        elif torch.Tag.pointwise in func.tags or name.rstrip("_") in _POINTWISE:
            numbers = flow.meet(tensors, results[0].shape, name)
            for value in results:
                _settle(flow, value, numbers, tensors)
        elif (pixels := next((pixels for pixels in (1, 2, 3) if f"{pixels}d" in name), None)) is not None:
            numbers = flow.over_pixels(args[0], pixels, name)
            for value in results:
                flow.put(value, None if numbers is None else numbers.expand(value.shape))
        else:
            flow.hold(tensors, f"{flow.here(name)} mixes its units in a way that is not known")


def _move(flow: Flow, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    def twin(tensor: Tensor) -> Tensor:
        numbers = flow.of(tensor)
        return torch.zeros((), dtype=torch.long).expand(tensor.shape) if numbers is None else numbers

    name = func.overloadpacket.__name__
    first = tree_map_only(Tensor, twin, args[0])
    if name in ("view", "_unsafe_view", "_reshape_alias"):
        flow.put(result, first.reshape(result.shape))
        _note_split(flow, args[0], result)
        return
    if name == "as_strided":
        flow.hold(args[0], f"{flow.here(name)} mixes its units in a way that is not known")
        return
    if "channel_shuffle" in name and (rows := flow.rows(args[0], 1)) is not None:
        flow.ties.splits.append(rows[0].reshape(args[1], -1).numpy())
    rest = tree_map_only(Tensor, lambda index: index.cpu(), args[1:])
    moved = func(first, *rest, **kwargs)
    for value, numbers in zip(tree_leaves(result), tree_leaves(moved), strict=True):
        flow.put(value, numbers)
    if "split" in name or "chunk" in name:
        _note_pieces(flow, tree_leaves(result))


def _note_split(flow: Flow, source: Tensor, result: Tensor) -> None:
    before, after = flow.resolved(source), flow.resolved(result)
    if before is None or after is None or len(varying(before)) != 1 or len(dims := varying(after)) != 2:
        return
    for dim in set(range(after.ndim)) - set(dims):
        after = after.narrow(dim, 0, 1)
    laid = after.reshape([after.shape[dim] for dim in dims])
    if bool((laid != 0).all()):
        flow.ties.splits.append(laid.numpy())


def _note_pieces(flow: Flow, pieces: list[Tensor]) -> None:
    """Pieces of one size must stay of one size."""
    found = [numbers for piece in pieces if (numbers := flow.resolved(piece)) is not None]
    dims = [varying(numbers) for numbers in found]
    if len(found) != len(pieces) or len({(piece.shape, *dim) for piece, dim in zip(pieces, dims, strict=True)}) != 1:
        return
    if len(dims[0]) == 1:
        rows = torch.stack([numbers.movedim(dims[0][0], -1).flatten(0, -2)[0] for numbers in found])
        if bool((rows != 0).all()):
            flow.ties.splits.append(rows.numpy())


def _write(flow: Flow, args: tuple[Any, ...], _result: Tensor, name: str) -> None:
    source = flow.of(args[1]) if name == "copy_" else None
    nothing = torch.zeros((), dtype=torch.long)
    if not flow.write(args[0], nothing if source is None else source):
        flow.hold(args, f"its units are written over others by {flow.here(name)}")


def _add_at(flow: Flow, args: tuple[Any, ...], result: Tensor, name: str) -> None:
    """Slices of one tensor are added to those of another, at places along a dimension in which channels do not vary."""
    target, dim, source = args[0], args[1] % result.ndim, args[3]
    numbers = [flow.resolved(tensor) for tensor in (target, source)]
    if any(found is not None and dim in varying(found) for found in numbers):
        flow.hold((target, source), f"{flow.here(name)} mixes its units in a way that is not known")
        return
    laid = [None if found is None else found.narrow(dim, 0, 1).expand(result.shape) for found in numbers]
    known = [found for found in laid if found is not None]
    if known:
        both = known[0] if len(known) == 1 else flow.joined(known[0], known[1], name)
        flow.write(result, both)
        flow.put(result, both)


def _settle(flow: Flow, value: Tensor, numbers: Tensor | None, tensors: list[Tensor]) -> None:
    """Note a result's channels; a result in place of an input that had none changes what else shares its memory."""
    in_place = any(value is tensor for tensor in tensors)
    old = flow.of(value) if in_place else None
    if old is None or numbers is None or bool(old.any()) or not flow.write(value, numbers):
        flow.put(value, numbers)


def _pad(flow: Flow, args: tuple[Any, ...], result: Tensor, _name: str) -> None:
    """What is added along channels is of none; along pixels each channel is padded with its own."""
    numbers, padding = flow.resolved(args[0]), args[1]
    if numbers is None:
        return
    dims = [result.ndim - 1 - place // 2 for place, size in enumerate(padding) if size]
    if set(varying(numbers)) & set(dims):
        flow.put(result, torch.constant_pad_nd(numbers, padding, 0))
        return
    for dim in dims:
        numbers = numbers.narrow(dim, 0, 1)
    flow.put(result, numbers.expand(result.shape))


def _reduce(
    flow: Flow, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[Tensor], name: str
) -> None:
    x = args[0]
    dims = list(reduced_dims(func, args, kwargs))
    numbers = flow.jointly(x, dims, name)
    if name in _SHAPE_KEEPING:
        flow.put(results[0], flow.of(x))
        return
    if numbers is not None:
        for dim in dims:
            numbers = numbers.narrow(dim, 0, 1)
    for value in results:
        flow.put(value, None if numbers is None else numbers.reshape(value.shape))


def reduced_dims(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, ...]:
    """The dimensions along which an operation of `JOINT` computes one number, rising."""
    known = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    dims, count = known.get("dim"), args[0].ndim
    if dims is None or dims == []:
        return tuple(range(count))
    return tuple(sorted(dim % max(1, count) for dim in ([dims] if isinstance(dims, int) else dims)))


def _multiply(flow: Flow, args: tuple[Any, ...], result: Tensor, name: str) -> None:
    """A product of matrices: the rows of the first and the columns of the second stay apart, what is summed does not."""
    pair = args[-2:]
    numbers = [flow.resolved(tensor) for tensor in pair]
    summed = [
        found is not None and found.ndim + dim in varying(found) for found, dim in zip(numbers, (-1, -2), strict=True)
    ]
    if any(summed) or all(found is not None for found in numbers):
        flow.hold(pair, f"its units are multiplied with each other by {flow.here(name)}")
        return
    for found, dim in zip(numbers, (-1, -2), strict=True):
        if found is not None:
            flow.put(result, found.narrow(dim, 0, 1).expand(result.shape))


def _copy(flow: Flow, args: tuple[Any, ...], result: Tensor, name: str) -> None:
    numbers = flow.of(args[0])
    shared = numbers is None or 0 in numbers.stride() or name in ("detach", "alias")
    flow.put(result, numbers if numbers is None or shared else numbers.clone())


def _gate(flow: Flow, args: tuple[Any, ...], result: Tensor, name: str) -> None:
    """The first half of the channels times a sigmoid of the second."""
    if (numbers := flow.resolved(args[0])) is not None:
        first, second = numbers.chunk(2, args[1] if len(args) > 1 else -1)
        flow.put(result, flow.joined(first, second, name))


def _restride(flow: Flow, args: tuple[Any, ...], result: Tensor, name: str) -> None:
    """Other strides in place, by which adaptive pooling to one pixel notes where channels lie; each number stays where it is."""
    numbers = flow.of(result)
    if numbers is not None and (numbers.shape != result.shape or result.numel() != max(result.shape, default=1)):
        flow.hold(args[0], f"{flow.here(name)} mixes its units in a way that is not known")


_OTHERS = {
    **dict.fromkeys(_SAME, _copy),
    **dict.fromkeys(("copy_", "fill_", "zero_"), _write),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _multiply),
    **dict.fromkeys(("index_add", "index_add_"), _add_at),
    "as_strided_": _restride,
    "glu": _gate,
    "constant_pad_nd": _pad,
}
