"""Sites by tracing: one forward pass shows which channels of which layers go together.

Tied channels are a unit. Units that lie in the same layers, as many channels each, are a site.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from trueoracle.nets.flow import Flow
from trueoracle.nets.layer_functions import LayerFunctions
from trueoracle.nets.operations import Operations
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.recurrent import is_recurrent
from trueoracle.nets.sites import HEADS, Cut, Kind, Normalisation, Role, Site, Sites
from trueoracle.nets.ties import Numbers, Side, Ties
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import Shape

_ROUNDS = 8  # of tying halves; a chain of blocks that split their channels needs a few


class Tracing:
    """What one image or text of `shape` shows of `net`; `others` are sites of other kinds, whose units are none of these.

    Raises `ModelError` where `net` cannot be traced. `in_step` are convolutions in groups that lose the same places of
    each group, where usually whole groups go.
    """

    def __init__(self, net: nn.Module, shape: Shape, others: Sites, in_step: Collection[str] = ()) -> None:
        self.net, self.shape, self.in_step = net, shape, in_step
        self.ties = _ties(net, shape, in_step)
        self.others = Sites(
            {name: _followed(net, self.ties, site) if site.kind in HEADS else site for name, site in others.items()},
            others.refused,
        )

    def sites(self) -> Sites:
        """The sites, in the order of the network's modules."""
        return _sites(self.net, self.ties, self.others)

    def parts(self) -> list[Site]:
        """Parts of layers' outputs whose units lie alike: no sites, but they may go in step with some."""
        return _units(self.net, self.ties, self.others).parts()

    def alternatives(self, sites: Sites) -> Iterator[Sites]:
        """Other ways to cut, where layers were refused that a finer look may save: with larger units.

        Where a view lays channels out in rows and columns, one of both counts is usually written into the forward pass.
        Either all rows then lose the same columns, or whole rows go.
        """
        for split in (_in_step, _whole):
            if (ties := _with_splits(self.ties, sites, split)) is not None:
                yield _sites(self.net, ties, self.others)
        held = {cut.layer for site in sites.values() for cut in site.cuts}
        grouped = [
            name
            for name, module in self.net.named_modules()
            if isinstance(module, _ConvNd) and 1 < module.groups < module.in_channels and name not in held
        ]
        if grouped and not self.in_step:
            tracing = Tracing(self.net, self.shape, self.others, grouped)
            yield tracing.sites()
            yield from tracing.alternatives(tracing.sites().without(grouped))


def _sites(net: nn.Module, ties: Ties, others: Sites) -> Sites:
    return _units(net, ties, others).sites()


def _units(net: nn.Module, ties: Ties, others: Sites) -> "_Units":
    ties = deepcopy(ties)
    for _ in range(_ROUNDS):
        units = _Units(net, ties, others)
        if not _tie_parts(units, ties):
            break
    return units


def _with_splits(ties: Ties, sites: Sites, split: Callable[[Ties, Numbers], None]) -> Ties | None:
    """With larger units where a view split the channels of layers that are no site; None where there is no such view."""
    ties = deepcopy(ties)
    held = {cut.layer for site in sites.values() for cut in site.cuts if cut.role is Role.PRODUCER}
    free = [numbers for side, numbers in ties.sides.items() if side.role is Role.PRODUCER and side.layer not in held]
    if not free:
        return None
    refused = set(ties.roots(np.concatenate(free)).tolist())
    touched = [laid for laid in ties.splits if refused & set(ties.roots(laid).ravel().tolist())]
    for laid in touched:
        split(ties, laid)
    return ties if touched else None


def _in_step(ties: Ties, laid: Numbers) -> None:
    ties.tie(np.broadcast_to(laid[:1], laid.shape), laid)


def _whole(ties: Ties, laid: Numbers) -> None:
    ties.tie(np.broadcast_to(laid[:, :1], laid.shape), laid)


def _ties(net: nn.Module, shape: Shape, in_step: Collection[str]) -> Ties:
    flow = Flow(net, in_step)
    try:
        with torch.no_grad(), flow.knowing_where(), LayerFunctions(flow), Operations(flow):
            answer = logits_of_noise(net, shape, 1)
    except Exception as error:  # whatever a user's forward pass, or the tracing of it, raises
        raise ModelError(
            f"{type(net).__name__} cannot be traced for its sites: {type(error).__name__}: {error} (its forward pass "
            f"must map a batch of {shape} to logits, by operations of torch)"
        ) from error
    flow.hold(answer, "its units are the network's outputs")
    sides = flow.ties.sides
    for layer, first in flow.shared():
        for side, numbers in [(replace(side, layer=layer), sides[side]) for side in sides if side.layer == first]:
            sides.setdefault(side, numbers)
    return flow.ties


def _tie_parts(units: "_Units", ties: Ties) -> bool:
    """Where a layer's outputs part into as many units here as there, they go in step, so that halves stay halves."""
    changed = False
    for side, groups in units.parted():
        if units.reason_of(side) is None and len({len(group) for group in groups}) == 1:
            for group in groups[1:]:
                ties.tie(np.asarray(groups[0]), np.asarray(group))
            changed = True
    return changed


@dataclass
class _Places:
    """The channels of one side by their roots."""

    side: Side
    roots: Numbers


def _followed(net: nn.Module, ties: Ties, site: Site) -> Site:
    """A site of heads with what follows its projections number by number, as a normalisation of all queries does."""
    unit_of: dict[int, int] = {}
    for cut in site.cuts:
        numbers = ties.sides.get(Side(cut.layer, cut.role, cut.dim)) if cut.role is Role.PRODUCER else None
        for unit, roots in enumerate([] if numbers is None else ties.roots(numbers)[cut.channels_UC].tolist()):
            for root in roots:
                unit_of[root] = unit if unit_of.get(root, unit) == unit else -1
    known = {cut.layer for cut in site.cuts}
    cuts = []
    for side, numbers in ties.sides.items():
        if side.role is not Role.FOLLOWER or side.layer in known or (side.bare and _dims(net, side.layer) > 1):
            continue
        units = np.asarray([unit_of.get(root, -1) for root in ties.roots(numbers).tolist()])
        counts = np.bincount(units[units >= 0], minlength=site.units)
        if (units >= 0).all() and len(set(counts.tolist())) == 1:
            channels_UC = np.argsort(units, kind="stable").reshape(site.units, -1)
            cuts.append(Cut(layer=side.layer, role=Role.FOLLOWER, channels_UC=channels_UC, dim=side.dim))
    normalised_by = [
        by
        for numbers, by in ties.normalised
        if len({unit_of.get(root, -1) for root in ties.roots(numbers).tolist()} - {-1}) > 1
    ]
    return replace(
        site, cuts=(*site.cuts[:-1], *cuts, site.cuts[-1]), normalised_by=tuple(dict.fromkeys(normalised_by))
    )


def _dims(net: nn.Module, parameter: str) -> int:
    owner, _, name = parameter.rpartition(".")
    return int(getattr(net.get_submodule(owner), name).ndim)


class _Units:
    """All tied channels, as they lie in the layers."""

    def __init__(self, net: nn.Module, ties: Ties, others: Sites) -> None:
        self.net = net
        self.modules = dict(net.named_modules())
        self.order = {name: place for place, (name, _) in enumerate(net.named_modules())}
        self.reasons: dict[int, str] = {}
        for numbers, reason in [*_taken(ties, others), *ties.stuck]:
            for root in np.unique(ties.roots(numbers)).tolist():
                self.reasons.setdefault(root, reason)
        self.normalised: dict[int, list[Normalisation]] = {}
        for numbers, by in ties.normalised:
            for root in np.unique(ties.roots(numbers)).tolist():
                self.normalised.setdefault(root, []).append(by)
        self.places = [
            places for side, numbers in ties.sides.items() for places in self._places(side, ties.roots(numbers))
        ]
        self.held = {places.side: set(places.roots.tolist()) for places in self.places}
        self.signatures = self._signatures()

    def _places(self, side: Side, roots: Numbers) -> Iterator[_Places]:
        """A bare parameter's places are laid along the one dimension in which they differ."""
        if not side.bare:
            yield _Places(side, roots)
            return
        owner, _, name = side.layer.rpartition(".")
        shape = getattr(self.net.get_submodule(owner), name).shape
        laid = roots.reshape(shape)
        dims = [dim for dim in range(laid.ndim) if (laid != np.take(laid, [0], dim)).any()]
        if len(dims) == 1:
            along = np.moveaxis(laid, dims[0], 0).reshape(shape[dims[0]], -1)[:, 0]
            yield _Places(Side(side.layer, side.role, dims[0], bare=True), along)
            return
        for root in np.unique(roots).tolist():
            self.reasons.setdefault(
                root, f"its units are tied to `{side.layer}`, of whose dimensions no single one is theirs"
            )

    def _signatures(self) -> dict[int, int]:
        """Of each root a number: the same for units that lie in the same sides, as many channels each."""
        counts: dict[int, list[int]] = {}
        for place, places in enumerate(self.places):
            found, many = np.unique(places.roots, return_counts=True)
            for root, count in zip(found.tolist(), many.tolist(), strict=True):
                counts.setdefault(root, []).extend((place, count))
        numbers: dict[tuple[int, ...], int] = {}
        return {root: numbers.setdefault(tuple(lies), len(numbers)) for root, lies in counts.items()}

    def parted(self) -> Iterator[tuple[Side, list[list[int]]]]:
        """The outputs of layers whose units do not all lie alike: the roots, in the order of their channels."""
        for places in self.places:
            if places.side.role is Role.PRODUCER:
                groups: dict[int, list[int]] = {}
                for root in dict.fromkeys(places.roots.tolist()):
                    groups.setdefault(self.signatures[root], []).append(root)
                if len(groups) > 1:
                    yield places.side, list(groups.values())

    def reason_of(self, side: Side) -> str | None:
        """Why some of a side's channels cannot go, if some cannot."""
        roots = next(places.roots for places in self.places if places.side == side)
        return next((self.reasons[root] for root in roots.tolist() if root in self.reasons), None)

    def sites(self) -> Sites:
        found: dict[str, Site] = {}
        refused: dict[str, str] = {}
        parted = {root: side.layer for side, groups in self.parted() for group in groups for root in group}
        of_layer = {places.side.layer: places for places in self.places if places.side.role is Role.PRODUCER}
        held = {places.side.layer for places in self.places}
        bare = [name for name in of_layer if name not in self.order]
        for name in sorted([*self.order, *bare], key=self._place):
            if name in refused:
                continue
            if name not in of_layer:
                if name not in held and isinstance(self.modules[name], _ConvNd | nn.Linear):
                    refused[name] = _unseen(self.modules[name])
                continue
            shown = self._shown(name)
            made = self._site(name, of_layer[name].roots, parted)
            if isinstance(made, str):
                refused[shown] = made
                continue
            found[shown] = made
            twins = (cut.layer for cut in made.cuts if cut.role is Role.PRODUCER and cut.layer not in (name, shown))
            refused |= dict.fromkeys(twins, f"its units are those of the site `{shown}`")
        return Sites(found, refused)

    def _shown(self, name: str) -> str:
        """What a layer is called: the hidden units of a recurrent layer after itself, not after the first of its weights."""
        owner, _, weight = name.rpartition(".")
        return owner if weight.startswith("weight_ih") and is_recurrent(self.modules.get(owner)) else name

    def _site(self, name: str, outputs: Numbers, parted: Mapping[int, str]) -> Site | str:
        """The site of a layer's outputs, or why it is none."""
        units = list(dict.fromkeys(outputs.tolist()))
        if (reason := next((self.reasons[root] for root in units if root in self.reasons), None)) is not None:
            return reason
        if (layer := next((parted[root] for root in units if root in parted), None)) is not None:
            return f"its units are tied to only a part of the outputs of `{layer}`, or to unequal parts of them"
        made = self._made(name, units)
        if not any(cut.role is Role.CONSUMER for cut in made.cuts):
            return "no layer sums over its units: they lead nowhere, or out of PyTorch on the way"
        return made

    def parts(self) -> list[Site]:
        """Of layers whose outputs do not all lie alike, those that do and may go, a site each."""
        found: dict[tuple[int, ...], Site] = {}
        for side, groups in self.parted():
            for group in groups:
                if len(group) > 1 and not any(root in self.reasons for root in group):
                    site = self._made(side.layer, group)
                    first = next(cut.layer for cut in site.cuts if cut.role is Role.PRODUCER)
                    found.setdefault(tuple(sorted(group)), replace(site, name=self._shown(first)))
        return list(found.values())

    def _made(self, name: str, units: list[int]) -> Site:
        places = [places for places in self.places if units[0] in self.held[places.side]]
        cuts = tuple(_cut(each, units) for each in places)
        return Site(
            name=self._shown(name),
            kind=self._kind(name),
            units=len(units),
            cuts=tuple(sorted(cuts, key=lambda cut: (cut.role is Role.CONSUMER, self._place(cut.layer)))),
            normalised_by=tuple(dict.fromkeys(by for root in units for by in self.normalised.get(root, ()))),
        )

    def _kind(self, name: str) -> Kind:
        layer = self.modules.get(name)
        if isinstance(layer, nn.Embedding):
            return Kind.CHANNEL
        convolves = isinstance(layer, _ConvNd) if layer is not None else self.net.get_parameter(name).ndim > 3
        return Kind.FILTER if convolves else Kind.NEURON

    def _place(self, layer: str) -> int:
        return self.order.get(layer, self.order.get(layer.rpartition(".")[0], 0))


def _cut(places: _Places, units: list[int]) -> Cut:
    unit = {root: place for place, root in enumerate(units)}
    at = np.asarray([unit.get(root, -1) for root in places.roots.tolist()])
    channels = np.flatnonzero(at >= 0)
    ordered = channels[np.argsort(at[channels], kind="stable")]
    return Cut(
        layer=places.side.layer, role=places.side.role, channels_UC=ordered.reshape(len(units), -1), dim=places.side.dim
    )


def _taken(ties: Ties, others: Sites) -> Iterator[tuple[Numbers, str]]:
    """The channels that belong to sites of other kinds, and those of layers that are refused."""
    owners = {
        (cut.layer, cut.role is Role.CONSUMER, cut.dim): site.name for site in others.values() for cut in site.cuts
    }
    whole = (
        site for site in others.values() if site.kind is not Kind.EXPERT
    )  # of which each is an entry of all it cuts
    bare = {cut.layer: site.name for site in whole for cut in site.cuts}
    for side, numbers in ties.sides.items():
        place = (side.layer, side.role is Role.CONSUMER, side.dim)
        if (owner := bare.get(side.layer) if side.bare else owners.get(place)) is not None:
            yield numbers, f"its units are tied to the projections of `{owner}`"
        if side.role is Role.PRODUCER and side.layer in others.refused:
            yield numbers, others.refused[side.layer]


def shared_channels(sites: Sites) -> list[str]:
    """Layers of which two sites hold a channel of one side: there must be none."""
    held: Counter[tuple[str, bool, int, int]] = Counter()
    for site in sites.values():
        for cut in site.cuts:
            for channel in np.unique(cut.channels_UC).tolist():
                held[cut.layer, cut.role is Role.CONSUMER, cut.dim, channel] += 1
    return sorted({layer for (layer, *_), times in held.items() if times > 1})


def _unseen(layer: nn.Module) -> str:
    """Why no channel of a layer was seen."""
    if is_parametrized(layer):
        return "its weights are computed from others in each pass: make that permanent first (remove_parametrizations)"
    return "the forward pass does not lead there, or another layer computes with its weights"
