"""Sites whose removal breaks a forward pass, for numbers of their units are written into it: which ones, trials tell.

Such a number is an attribute of a module or of its configuration, which is then told how many are left (`Written`); or it
is the number of units of another site, as where a layer's outputs are laid out by the number of its inputs: then the
units of both go in step.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trueoracle.nets.sites import Cut, Role, Site, Written

Fault = Callable[[Sequence[Site]], str | None]
"""What is wrong with the network without some units of these sites, if anything is."""
_MOST_SPLIT = 12  # sites in step that are tried in two lots; more are left as they are found


Path = tuple[str | int, ...]


def told(net: nn.Module, fault: Fault, site: Site) -> Site | None:
    """The site with what must be told how many units are left, so that its removal passes; None where nothing helps.

    Tried are numbers of one name, in all modules above what the site cuts, or above what consumes its units, or makes them;
    and at last the numbers of all names.
    """
    above = [_places(net, site, roles) for roles in (tuple(Role), (Role.CONSUMER,), (Role.PRODUCER, Role.FOLLOWER))]
    ways = [[(module, path) for module in places[path]] for places in above for path in places]
    every = [[(module, path) for path, modules in places.items() for module in modules] for places in above]
    for way in dict.fromkeys(tuple(way) for way in [*ways, *every] if way):
        tried = replace(site, written=tuple(Written(module, path) for module, path in way))
        if fault([tried]) is None:
            return tried
    return None


def _places(net: nn.Module, site: Site, roles: tuple[Role, ...]) -> dict[Path, list[str]]:
    """Where the modules above what the site cuts in these roles keep numbers that are those of its channels."""
    numbers = {site.units, *(cut.channels_UC.size for cut in site.cuts)}
    own: dict[Path, list[str]] = {}
    configured: dict[Path, list[str]] = {}
    for name in _above(site, roles):
        module = net.get_submodule(name)
        for key, value in vars(module).items():
            if _is_count(value, numbers) and not key.startswith("_"):
                own.setdefault((key,), []).append(name)
        for key, value in getattr(getattr(module, "config", None), "__dict__", {}).items():
            if _is_count(value, numbers):
                configured.setdefault(("config", key), []).append(name)
            elif isinstance(value, list):
                for at in (at for at, each in enumerate(value) if _is_count(each, numbers)):
                    configured.setdefault(("config", key, at), []).append(name)
    return own | configured


def _is_count(value: object, numbers: set[int]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in numbers


def _above(site: Site, roles: tuple[Role, ...]) -> list[str]:
    """The modules around what it cuts in these roles, the innermost first."""
    found: dict[str, None] = {}
    for cut in (cut for cut in site.cuts if cut.role in roles):
        name = cut.layer
        while name:
            name = name.rpartition(".")[0]
            found.setdefault(name)
    return sorted(found, key=lambda name: -name.count(".") - bool(name))


def tell(net: nn.Module, site: Site, kept: int) -> None:
    """Tell `net`, which is left with `kept` units of the site, all numbers of them that are written down."""
    for written in site.written:
        owner: Any = net.get_submodule(written.module)
        first, *rest = written.path
        setattr(owner, str(first), _changed(getattr(owner, str(first)), rest, site.units, kept))


def _changed(value: Any, path: Sequence[str | int], units: int, kept: int) -> Any:
    """The value, or a copy of it with what lies at `path` changed; the network's other modules keep theirs."""
    if not path:
        return value // units * kept
    first, *rest = path
    if isinstance(first, int):
        return [_changed(each, rest, units, kept) if at == first else each for at, each in enumerate(value)]
    changed = copy(value)
    setattr(changed, first, _changed(getattr(value, first), rest, units, kept))
    return changed


def in_step(net: nn.Module, fault: Fault, sites: Sequence[Site], parts: Sequence[Site]) -> Iterator[list[Site]]:
    """The sites that pass when they go in step, lot by lot; the first of a lot is the site of all, the others are in it.

    `sites` fail alone. `parts` of layers' outputs may go by themselves where the rest of their layer stays.
    """
    for lot in _lots([*sites, *parts]):
        if len(lot) > 1:
            yield from _passing(net, fault, lot)
        elif any(lot[0] is part for part in parts) and (passed := _passed(net, fault, lot[0])) is not None:
            yield [passed]


def _passed(net: nn.Module, fault: Fault, site: Site) -> Site | None:
    return site if fault([site]) is None else told(net, fault, site)


def _passing(net: nn.Module, fault: Fault, lot: list[Site]) -> Iterator[list[Site]]:
    """The lot as one site, or as two that pass each."""
    if len(lot) < 2:
        return
    if (whole := _passed(net, fault, _joined(lot))) is None:
        return
    for at in range(2, len(lot) - 1) if len(lot) <= _MOST_SPLIT else ():
        halves = [list(_passing(net, fault, half)) for half in (lot[:at], lot[at:])]
        if all(halves):
            yield from (one for half in halves for one in half)
            return
    yield [whole, *lot]


def _lots(sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Sites of one number of units that cut a layer in common, with what cuts one in common with these, and so on."""
    layers = [{cut.layer for cut in site.cuts} for site in sites]
    left = list(range(len(sites)))
    while left:
        lot = [left.pop(0)]
        for one in lot:  # grows on the way
            lot += [at for at in left if sites[at].units == sites[one].units and layers[at] & layers[one]]
            left = [at for at in left if at not in lot]
        yield [sites[at] for at in sorted(lot)]


def _joined(lot: list[Site]) -> Site:
    """One site, whose unit u is unit u of each."""
    channels: dict[tuple[str, Role, int], list[NDArray[np.int64]]] = {}
    for site in lot:
        for cut in site.cuts:
            channels.setdefault((cut.layer, cut.role, cut.dim), []).append(cut.channels_UC)
    cuts = (
        Cut(layer=layer, role=role, dim=dim, channels_UC=np.concatenate(parts, axis=1))
        for (layer, role, dim), parts in channels.items()
    )
    normalised_by = dict.fromkeys(by for site in lot for by in site.normalised_by)
    return replace(
        lot[0],
        cuts=tuple(sorted(cuts, key=lambda cut: cut.role is Role.CONSUMER)),
        normalised_by=tuple(normalised_by),
    )
