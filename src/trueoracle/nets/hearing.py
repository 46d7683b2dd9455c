"""What layers that sum over a site's units are given: heard, and changed, on its way in.

There the units are whole: behind their normalisation and activation, in front of what sums over them. It is the place
where silence and removal say the same, whatever lies between.

Letters: U units of a site, C channels of a layer.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trueoracle.nets.flow import memory
from trueoracle.nets.silence import SUMMING
from trueoracle.nets.sites import Cut, Kind, Role, Site

_PRODUCTS = ("matmul", "__matmul__", "mm", "addmm", "bmm", "baddbmm")


@dataclass(frozen=True, kw_only=True)
class Input:
    """What a layer is given: `x`, whose dimension `dim` are channels; unit u of `site` are its channels `cut.channels_UC[u]`."""

    site: Site
    cut: Cut
    x: Tensor
    dim: int


Hear = Callable[[Input], Tensor]
"""Gives back what the layer is to be given instead, or the same."""


@contextmanager
def heard(net: nn.Module, sites: Mapping[str, Site], hear: Hear) -> Iterator[None]:
    """While it lasts, `hear` is told of every input of a layer that sums over units of these sites.

    Blocks and whole experts are no inputs of a layer: nothing is heard of them (see `gated_blocks`).
    """
    with _Hearing(net, sites, hear):
        yield


class _Hearing(TorchFunctionMode):
    """Knows layers by the memory of their weights: so fused projections and stacked experts are heard as well."""

    def __init__(self, net: nn.Module, sites: Mapping[str, Site], hear: Hear) -> None:
        super().__init__()
        self._hear = hear
        self._listeners: dict[int, list[tuple[Site, Cut]]] = {}
        for site in sites.values():
            for cut in site.cuts:
                if cut.role is Role.CONSUMER and site.kind is not Kind.EXPERT:
                    self._listeners.setdefault(memory(_weight(net, cut.layer)), []).append((site, cut))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _PRODUCTS and len(args) > 1:
            *before, x, weight = args
            return func(*before, self._told(x, weight, -1), weight, **kwargs)
        if name not in SUMMING:
            return func(*args, **kwargs)
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        x, *rest = args or (kwargs.pop("input"),)
        return func(self._told(x, weight, SUMMING[name]), *rest, **kwargs)

    def _told(self, x: Tensor, weight: Any, dim: int) -> Tensor:
        if not isinstance(weight, Tensor):
            return x
        for site, cut in self._listeners.get(memory(weight), ()):
            x = self._hear(Input(site=site, cut=cut, x=x, dim=dim))
        return x


@contextmanager
def gated_blocks(net: nn.Module, site: Site, gate_U: Tensor) -> Iterator[None]:
    """While it lasts, each block of the site gives what it was given, plus its gate times what it adds to that."""

    def hook(gate: Tensor) -> Callable[..., Any]:
        def scaled(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            given = args[0] if args else kwargs["hidden_states"]
            first = output[0] if isinstance(output, tuple) else output
            mixed = given + gate * (first - given)
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        return scaled

    hooks = [
        net.get_submodule(name).register_forward_hook(hook(gate), with_kwargs=True)
        for name, gate in zip(site.blocks, gate_U.unbind(), strict=True)
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def _weight(net: nn.Module, layer: str) -> Tensor:
    parent, _, last = layer.rpartition(".")
    found: Any = getattr(net.get_submodule(parent), last)
    weight: Tensor = found if isinstance(found, Tensor) else found.weight
    return weight
