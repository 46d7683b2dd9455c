"""How channels flow through a forward pass: every tensor's twin says of each of its elements which channel it is of.

What moves numbers about (views, concatenations, shuffles, shifts) moves the twin's in the same way, so it need not be
known what it does; what works on each number by itself ties the channels that meet; layers sum over the channels that
come in and make new ones.

Letters: B examples, C channels, I inputs and O outputs of a layer, T tokens.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from trueoracle.nets.experts import is_stack
from trueoracle.nets.sites import Normalisation, Role
from trueoracle.nets.ties import Numbers, Side, Ties

_MOST_PLACES = 1 << 20  # of a bare parameter: larger ones are no numbers a channel


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer by name, and which of its dimensions those of a view of it are, transposed or a slice."""

    name: str
    whole: Tensor
    dims: tuple[int, ...]


class Flow:
    """The channels of all tensors of one forward pass of `net`, and the ties that it shows."""

    def __init__(self, net: nn.Module, in_step: Collection[str] = ()) -> None:
        self.ties = Ties()
        self.in_step = in_step
        self.net = net
        self._modules: dict[str, nn.Module] = dict(net.named_modules())
        self._of: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._casts: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._bare: list[Numbers] = []
        self._paths: list[str] = [""]
        self._owners: dict[int, list[tuple[str, str]]] = {}
        self._wholes: dict[int, list[Tensor]] = {}
        named = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
        for name, tensor in named:
            self._owners.setdefault(id(tensor), []).append((name.rpartition(".")[0], name))
            if len(self._owners[id(tensor)]) == 1:
                self._wholes.setdefault(memory(tensor), []).append(tensor)

    @contextmanager
    def knowing_where(self) -> Iterator[None]:
        """While it lasts, it is known whose forward pass runs."""
        hooks = []
        for name, module in self.net.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._paths.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: self._left(), always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def hold(self, value: object, reason: str) -> None:
        """The channels that `value` holds cannot go."""
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor) and (numbers := self.of(tensor)) is not None:
                self.ties.stuck.append((present(numbers), reason))

    def of(self, tensor: Tensor) -> Tensor | None:
        """The numbers of the channels of a tensor's elements; of a bare parameter every place is a channel at first."""
        if tensor in self._of:
            return self._of[tensor]  # type: ignore[no-any-return]
        owner = self._owner(tensor)
        if owner is None or not tensor.is_floating_point() or tensor.numel() > _MOST_PLACES or not tensor.ndim:
            return None
        module = self._modules[owner[0]]
        if isinstance(module, _ConvNd | nn.Linear) and owner[1].endswith("weight"):
            return None
        places = self.ties.side(Side(owner[1], Role.FOLLOWER, bare=True), tensor.numel())
        self._bare.append(places)
        if tensor.ndim == 2 and is_stack(module):  # a bias of each expert, of which a text may not ask all
            rows = places.reshape(tensor.shape)
            self.ties.tie(np.broadcast_to(rows[:1], rows.shape), rows)
        self._of[tensor] = torch.from_numpy(places).view(tensor.shape)
        return self._of[tensor]  # type: ignore[no-any-return]

    def put(self, tensor: object, numbers: Tensor | None) -> None:
        """What the elements of a result are of."""
        if isinstance(tensor, Tensor):
            if numbers is not None:
                self._of[tensor] = numbers
            elif tensor in self._of:
                del self._of[tensor]

    @property
    def path(self) -> str:
        """The name of the module whose forward pass runs; empty for the whole network."""
        return self._paths[-1]

    @property
    def module(self) -> nn.Module:
        """The module whose forward pass runs."""
        return self._modules[self.path]

    def named(self, module: str) -> nn.Module:
        """The module of this name."""
        return self._modules[module]

    def here(self, operation: str) -> str:
        """What a user would call an operation."""
        return f"`{operation}` in `{self.path}`" if self.path else f"`{operation}`"

    def write(self, tensor: Tensor, numbers: Tensor) -> bool:
        """Numbers in place, so that views of the same memory see them; whether that is possible."""
        own = self.of(tensor)
        if own is None or any(stride == 0 and size > 1 for stride, size in zip(own.stride(), own.shape, strict=True)):
            return False
        own.copy_(numbers.expand(own.shape))
        return True

    def whole(self, tensor: Tensor) -> Tensor | None:
        """A tensor that is a parameter or buffer itself; None for one that is computed."""
        return tensor if id(tensor) in self._owners else None

    def weight(self, tensor: Tensor) -> Weight | None:
        """The parameter or buffer that a tensor is, or of which it is a view that has the whole of its own dimensions."""
        tensor = self._casts.get(tensor, tensor)  # type: ignore[no-untyped-call]
        if (owner := self._owner(tensor)) is not None:
            return Weight(owner[1], tensor, tuple(range(tensor.ndim)))
        wholes = self._wholes.get(memory(tensor), [])
        if len(wholes) != 1 or (owner := self._owner(wholes[0])) is None:
            return None
        whole = wholes[0]
        dims: list[int] = []
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            alike = (
                dim
                for dim in range(whole.ndim)
                if dim not in dims and whole.shape[dim] == size and (size == 1 or whole.stride(dim) == stride)
            )
            if (dim := next(alike, None)) is None:
                return None
            dims.append(dim)
        return Weight(owner[1], whole, tuple(dims))

    def is_known_layer(self, weight: str) -> bool:
        """Whether a parameter is the weight of a layer that is cut as a whole."""
        owner, _, name = weight.rpartition(".")
        module = self._modules.get(owner)
        return name == "weight" and (isinstance(module, _ConvNd | nn.Linear) or type(module).__name__ == "Conv1D")

    def shared(self) -> Iterator[tuple[str, str]]:
        """Layers whose weight is another's, by name, with the first of that weight's."""
        for owners in self._owners.values():
            known = [module for module, name in owners if self.is_known_layer(name)]
            yield from ((layer, known[0]) for layer in known[1:])

    def layer(self, *weights: object) -> str | None:
        """The name of the module that one of these tensors is a parameter or buffer of."""
        owners = (self._owner(weight) for weight in weights if isinstance(weight, Tensor))
        return next((owner[0] for owner in owners if owner is not None), None)

    def cast(self, tensor: Tensor, source: Tensor) -> None:
        """A tensor is `source` in another precision."""
        if (whole := self.whole(source)) is not None:
            self._casts[tensor] = whole

    def _owner(self, tensor: Tensor) -> tuple[str, str] | None:
        """Module and name of a parameter or buffer; of one that several modules have, that which runs, or the first."""
        owners = self._owners.get(id(tensor), [])
        return next((owner for owner in owners if owner[0] == self.path), owners[0] if owners else None)

    def of_computed_weight(self, weight: Tensor) -> str | None:
        """The layer that runs, where `weight` was computed from its own; it is then normalised by the computation."""
        own = self.module._parameters.get("weight")
        return self.path if own is not None and own.shape == weight.shape else None

    # What becomes of channels

    def meet(self, tensors: list[Tensor], shape: torch.Size, operation: str) -> Tensor | None:
        """Numbers that are computed element by element: channels that meet are tied."""
        parts = [(_laid_out(tensor), self.resolved(tensor)) for tensor in tensors]
        labelled = [(size, numbers) for size, numbers in parts if numbers is not None]
        if not labelled or not shape.numel():
            return None
        aligned = [(_sizes(size, len(shape)), numbers.expand(shape)) for size, numbers in labelled]
        varies = [varying(numbers) for _, numbers in aligned]
        spread = [
            any(size[dim] == 1 and shape[dim] > 1 for other in varies for dim in other if other is not own)
            for (size, _), own in zip(aligned, varies, strict=True)
        ]
        kept: Tensor | None = None
        reason = f"its units are combined with those of others by {self.here(operation)}, each with each"
        for (_, numbers), alone in zip(aligned, spread, strict=True):
            if alone:
                self.ties.stuck.append((present(numbers), reason))
            else:
                kept = numbers if kept is None else self.joined(kept, numbers, operation)
        if kept is None:
            return None
        seen = varying(kept)
        for size, none in parts:
            if none is None and any(_sizes(size, len(shape))[dim] > 1 for dim in seen):
                self._beside(present(kept), operation)
        return compact(kept)

    def joined(self, kept: Tensor, numbers: Tensor, operation: str) -> Tensor:
        one, other = narrowed(kept, numbers)
        both = (one != 0) & (other != 0) & (one != other)
        if bool(both.any()):
            self.ties.tie(one[both].numpy(), other[both].numpy())
        for some, none in ((one, other), (other, one)):
            if bool((alone := (some != 0) & (none == 0)).any()):
                self._beside(present(some[alone]), operation)
        return torch.where(one != 0, one, other).expand(kept.shape)

    def _beside(self, numbers: Numbers, operation: str) -> None:
        self.ties.stuck.append((numbers, f"its units meet numbers in {self.here(operation)} that stay when they go"))

    def rows(self, tensor: Tensor, dim: int) -> Tensor | None:
        """(N, C): the channels along a dimension, in each different row; None where there are none."""
        numbers = self.resolved(tensor)
        if numbers is None:
            return None
        return narrowed(numbers.movedim(dim, -1), keep_last=True)[0].reshape(-1, tensor.shape[dim])

    def through(self, tensor: Tensor, dim: int, side: Side, sides_numbers: Numbers | None = None) -> Numbers:
        """Channels come into a side of a layer: its own are tied to them."""
        own = self.ties.side(side, tensor.shape[dim]) if sides_numbers is None else sides_numbers
        rows = self.rows(tensor, dim)
        if rows is None:
            self.ties.stuck.append((own, f"`{side.layer}` has inputs that no layer makes which can lose any"))
            return own
        for row in rows.numpy():
            here = row != 0
            self.ties.tie(own[here], row[here])
            if not here.all():
                self.ties.stuck.append(
                    (own[~here], f"`{side.layer}` has inputs that no layer makes which can lose any")
                )
        return own

    def jointly(self, tensor: Tensor, dims: list[int], operation: str) -> Tensor | None:
        """One number is computed along `dims`: what there is of several channels is normalised. What is left of them."""
        numbers = self.resolved(tensor)
        if numbers is None:
            return None
        dims = [dim % tensor.ndim for dim in dims]
        inside, outside = set(varying(numbers)) & set(dims), set(varying(numbers)) - set(dims)
        if inside and outside and self._is_split(numbers):
            # Each group of channels gives a number of its own, so it stays or goes as a whole.
            for dim in inside:
                one, other = narrowed(numbers.narrow(dim, 0, 1).expand(numbers.shape), numbers)
                self.ties.tie(one.numpy(), other.numpy())
            return self._resolved(numbers)
        if inside:
            self.ties.normalised.append((present(numbers), Normalisation(self.path, operation, tuple(sorted(dims)))))
            return None
        return numbers

    def _is_split(self, numbers: Tensor) -> bool:
        """Whether it is a view that lays channels out in rows and columns, as `Ties.splits` knows them."""
        laid = self.ties.roots(narrowed(numbers)[0].squeeze().numpy())
        return any(np.array_equal(self.ties.roots(split), laid) for split in self.ties.splits)

    def over_pixels(self, tensor: Tensor, pixels: int, operation: str) -> Tensor | None:
        """The channels of an operation on the last `pixels` dimensions, each of size 1."""
        numbers = self.resolved(tensor)
        if numbers is None:
            return None
        last = range(tensor.ndim - pixels, tensor.ndim)
        first = numbers
        for dim in last:
            first = first.narrow(dim, 0, 1)
        if set(varying(numbers)) & set(last):
            if not self._all_bare(numbers):
                self.hold(tensor, f"{self.here(operation)} mixes its units")
                return None
            # The pixels of a parameter, as a table of positions, are of one channel each.
            self.ties.tie(first.expand(numbers.shape).numpy(), numbers.numpy())
            return self._resolved(first)
        return first

    def _all_bare(self, numbers: Tensor) -> bool:
        """Whether all are places of bare parameters that are tied to no layer's channels so far."""
        seen = present(numbers)
        return any(seen[0] >= places[0] and seen[-1] <= places[-1] for places in self._bare)

    def resolved(self, tensor: Tensor) -> Tensor | None:
        """The numbers of a tensor's elements, tied channels under one; None where there are none."""
        numbers = self.of(tensor)
        return None if numbers is None or not bool(numbers.any()) else self._resolved(numbers)

    def _resolved(self, numbers: Tensor) -> Tensor:
        """With tied channels under one number, and dimensions along which nothing changes of stride 0."""
        small = narrowed(numbers)[0]
        return compact(torch.from_numpy(self.ties.roots(small.numpy())).expand(numbers.shape))

    def _left(self) -> None:
        self._paths.pop()


def memory(tensor: Tensor) -> int:
    """Where its numbers lie; a view has its whole's."""
    return tensor.untyped_storage().data_ptr()


def present(numbers: Tensor) -> Numbers:
    small = np.unique(narrowed(numbers)[0].numpy())
    found: Numbers = small[small != 0]
    return found


def narrowed(*tensors: Tensor, keep_last: bool = False) -> list[Tensor]:
    """Without the repetitions along dimensions in which all of them have stride 0."""
    found = list(tensors)
    for dim in range(found[0].ndim - keep_last):
        if all(tensor.stride(dim) == 0 for tensor in found) and found[0].shape[dim] > 1:
            found = [tensor.narrow(dim, 0, 1) for tensor in found]
    return found


def varying(numbers: Tensor) -> list[int]:
    return [
        dim
        for dim in range(numbers.ndim)
        if numbers.shape[dim] > 1
        and numbers.stride(dim) != 0
        and not bool((numbers == numbers.narrow(dim, 0, 1)).all())
    ]


def compact(numbers: Tensor) -> Tensor:
    """The same numbers, of stride 0 along dimensions in which nothing changes."""
    shape, changing = numbers.shape, varying(numbers)
    for dim in set(range(numbers.ndim)) - set(changing):
        numbers = numbers.narrow(dim, 0, min(1, numbers.shape[dim]))
    return numbers.contiguous().expand(shape) if numbers.numel() else numbers.expand(shape)


def spread(flow: Flow, result: Tensor, dim: int, numbers: Numbers) -> None:
    """The channels that lie along one dimension of a result."""
    shape = [1] * result.ndim
    shape[dim] = -1
    flow.put(result, torch.from_numpy(numbers).view(shape).expand(result.shape))


def _laid_out(tensor: Tensor) -> torch.Size:
    """Its sizes, 1 where it only repeats itself, as what was expanded."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return torch.Size(1 if stride == 0 else size for size, stride in pairs)


def _sizes(shape: torch.Size, dims: int) -> list[int]:
    return [1] * (dims - len(shape)) + list(shape)
