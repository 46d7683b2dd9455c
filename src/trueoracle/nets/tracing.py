"""Sites by tracing: one forward pass shows which channels of which layers go together.

Tied channels are a unit. Units that lie in the same layers, as many channels each, are a site.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from trueoracle.nets.flow import Flow
from trueoracle.nets.layer_functions import LayerFunctions
from trueoracle.nets.operations import Operations
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.sites import Cut, Kind, Normalisation, Role, Site, Sites
from trueoracle.nets.ties import Numbers, Side, Ties
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape

_ROUNDS = 8  # of tying halves; a chain of blocks that split their channels needs a few

Signature = tuple[tuple[Side, int], ...]
"""The sides in which a unit lies, and how many channels of each."""


def traced_sites(net: nn.Module, shape: InputShape, others: Sites) -> Sites:
    """The sites that one image of `shape` shows, in the order of `net`'s modules.

    `others` are sites of other kinds, found before; what is tied to the units of one is none of these. Raises
    `ModelError` where `net` cannot be traced.
    """
    ties = _ties(net, shape)
    for _ in range(_ROUNDS):
        units = _Units(net, ties, others)
        if not _tie_parts(units, ties):
            break
    return units.sites()


def _ties(net: nn.Module, shape: InputShape) -> Ties:
    flow = Flow(net)
    try:
        with torch.no_grad(), flow.knowing_where(), LayerFunctions(flow), Operations(flow):
            answer = logits_of_noise(net, shape, 1)
    except Exception as error:  # whatever a user's forward pass, or the tracing of it, raises
        raise ModelError(
            f"{type(net).__name__} cannot be traced for its sites: {type(error).__name__}: {error} (its forward pass "
            f"must map a batch of {shape} to logits, by operations of torch)"
        ) from error
    flow.hold(answer, "its units are the network's outputs")
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


class _Units:
    """All tied channels, as they lie in the layers."""

    def __init__(self, net: nn.Module, ties: Ties, others: Sites) -> None:
        self.net = net
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

    def _signatures(self) -> dict[int, Signature]:
        counts: dict[int, list[tuple[Side, int]]] = {}
        for places in self.places:
            found, many = np.unique(places.roots, return_counts=True)
            for root, count in zip(found.tolist(), many.tolist(), strict=True):
                counts.setdefault(root, []).append((places.side, count))
        return {root: tuple(lies) for root, lies in counts.items()}

    def parted(self) -> Iterator[tuple[Side, list[list[int]]]]:
        """The outputs of layers whose units do not all lie alike: the roots, in the order of their channels."""
        for places in self.places:
            if places.side.role is Role.PRODUCER:
                groups: dict[Signature, list[int]] = {}
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
        for name, module in self.net.named_modules():
            if not isinstance(module, _ConvNd | nn.Linear | nn.Embedding) or name in refused:
                continue
            if name not in of_layer:
                if getattr(module, "groups", 1) == 1:
                    refused[name] = "the forward pass does not lead there"
                continue
            made = self._site(name, of_layer[name].roots, parted)
            if isinstance(made, str):
                refused[name] = made
                continue
            found[name] = made
            twins = (cut.layer for cut in made.cuts if cut.role is Role.PRODUCER and cut.layer != name)
            refused |= dict.fromkeys(twins, f"its units are those of the site `{name}`")
        return Sites(found, refused)

    def _site(self, name: str, outputs: Numbers, parted: Mapping[int, str]) -> Site | str:
        """The site of a layer's outputs, or why it is none."""
        units = list(dict.fromkeys(outputs.tolist()))
        if (reason := next((self.reasons[root] for root in units if root in self.reasons), None)) is not None:
            return reason
        if (layer := next((parted[root] for root in units if root in parted), None)) is not None:
            return f"its units are tied to only a part of the outputs of `{layer}`, or to unequal parts of them"
        if not any(side.role is Role.CONSUMER for side, _ in self.signatures[units[0]]):
            return "no layer sums over its units: they lead nowhere, or out of PyTorch on the way"
        if len(units) == 1:
            return "all its outputs can only go together"
        lies = dict.fromkeys(side for side, _ in self.signatures[units[0]])
        cuts = tuple(_cut(places, units) for places in self.places if places.side in lies)
        return Site(
            name=name,
            kind=Kind.NEURON if isinstance(self.net.get_submodule(name), nn.Linear) else Kind.FILTER,
            units=len(units),
            cuts=tuple(sorted(cuts, key=lambda cut: (cut.role is Role.CONSUMER, self._place(cut.layer)))),
            normalised_by=tuple(dict.fromkeys(by for root in units for by in self.normalised.get(root, ()))),
        )

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
    """The channels that belong to sites of other kinds."""
    owners = {(cut.layer, cut.role is Role.CONSUMER): site.name for site in others.values() for cut in site.cuts}
    for side, numbers in ties.sides.items():
        if (owner := owners.get((side.layer, side.role is Role.CONSUMER))) is not None:
            yield numbers, f"its units are tied to the projections of `{owner}`"


def shared_channels(sites: Sites) -> list[str]:
    """Layers of which two sites hold a channel of one side: there must be none."""
    held: Counter[tuple[str, bool, int, int]] = Counter()
    for site in sites.values():
        for cut in site.cuts:
            for channel in np.unique(cut.channels_UC).tolist():
                held[cut.layer, cut.role is Role.CONSUMER, cut.dim, channel] += 1
    return sorted({layer for (layer, *_), times in held.items() if times > 1})
