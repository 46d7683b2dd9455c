"""Whole residual blocks as units: layers of transformers, blocks of a stage of a ResNet.

Units of a site are the blocks of one list that may go: each is called once, with one tensor, which comes out in the same
shape; all have one class and weights of the same shapes; and they are residual, which is tried out with the first of them:
with all its weights at zero it gives back what it is given. A block that normalises or cuts off its sum may fail that, and is no unit.
"""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.sites import Kind, Site
from trueoracle.words.mask import SiteMask
from trueoracle.words.shape import Shape

_TOLERANCE = 1e-5
# What configurations of `transformers` call the number of layers, and a list with an entry a layer.
_COUNTS, _LISTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers"), ("layer_types",)


@dataclass
class _Calls:
    """The calls of a block: what went in as a tensor, everything that went in, and what came out."""

    seen: list[tuple[Tensor | None, tuple[Any, ...], dict[str, Any], Any]] = field(default_factory=list)

    def note(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = args[0] if args else kwargs.get("hidden_states")
        self.seen.append((given if isinstance(given, Tensor) else None, args, kwargs, output))

    def keeps_shape(self) -> bool:
        """Whether it was called once, with a tensor that came out in the same shape."""
        if len(self.seen) != 1:
            return False
        given, _, _, output = self.seen[0]
        came_out = _first(output)
        return given is not None and isinstance(came_out, Tensor) and given.shape == came_out.shape


def block_sites(net: nn.Module, shape: Shape) -> Iterator[Site]:
    """A site for every list of blocks of which two or more may go, in the order of `net`'s modules."""
    lists = {
        name: [f"{name}.{child}" for child, _ in module.named_children()]
        for name, module in net.named_modules()
        if name and isinstance(module, nn.ModuleList | nn.Sequential)
    }
    calls = {block: _Calls() for blocks in lists.values() for block in blocks}
    hooks = [net.get_submodule(name).register_forward_hook(own.note, with_kwargs=True) for name, own in calls.items()]
    try:
        with torch.no_grad():
            logits_of_noise(net, shape, 1)
    finally:
        for hook in hooks:
            hook.remove()
    for name, blocks in lists.items():
        alike = _alike(net, [block for block in blocks if calls[block].keeps_shape()])
        if len(alike) > 1 and _residual(net.get_submodule(alike[0]), calls[alike[0]]):
            yield Site(name=name, kind=Kind.BLOCK, units=len(alike), cuts=(), blocks=tuple(alike))


def drop_blocks(net: nn.Module, site: Site, part: SiteMask) -> None:
    """Take the pruned blocks out of their list; layers of transformers are counted anew, for caches and configuration."""
    each: Any = net.get_submodule(site.name)
    gone = {site.blocks[unit].rpartition(".")[2] for unit in part.pruned}
    places = [at for at, (child, _) in enumerate(each.named_children()) if child not in gone]
    kept = [each[at] for at in places]
    before = len(each)
    parent, _, last = site.name.rpartition(".")
    setattr(net.get_submodule(parent), last, type(each)(kept) if isinstance(each, nn.ModuleList) else type(each)(*kept))
    for number, block in enumerate(kept):
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = number
    for config in {id(own): own for module in net.modules() if (own := getattr(module, "config", None))}.values():
        _count_anew(config, before, places)


def _count_anew(config: Any, before: int, places: list[int]) -> None:
    for name in _COUNTS:
        if getattr(config, name, None) == before:
            setattr(config, name, len(places))
    for name in _LISTS:
        if isinstance(listed := getattr(config, name, None), list) and len(listed) == before:
            setattr(config, name, [listed[at] for at in places])


@torch.no_grad()
def _residual(block: nn.Module, calls: _Calls) -> bool:
    """Whether the block gives back what it is given when all its weights are zero; those alike do as it does."""
    given, args, kwargs, _ = calls.seen[0]
    without = deepcopy(block)
    for tensor in without.parameters():
        tensor.zero_()
    try:
        empty = _first(without(*args, **kwargs))
    except Exception:  # whatever a forward pass raises that divides by its weights, or looks at them
        return False
    assert given is not None
    return torch.allclose(empty, given, rtol=0, atol=_TOLERANCE * float(given.abs().max()))


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def _alike(net: nn.Module, names: list[str]) -> list[str]:
    """Those of the blocks whose class and weights' shapes most of them have; what has no weights is no block."""
    looks = {name: _look(net.get_submodule(name)) for name in names}
    counted = Counter(look for look in looks.values() if any(len(shape) > 1 for shape in look[1]))
    most = counted.most_common(1)
    return [name for name in names if most and looks[name] == most[0][0]]


def _look(block: nn.Module) -> tuple[type, tuple[torch.Size, ...]]:
    return type(block), tuple(weight.shape for weight in block.parameters())
