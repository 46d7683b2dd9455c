"""Ways to prune a network that meet a limit of what it may cost; several compete in one selection.

A way is a ratio for each site. What a network costs depends on how many units each site loses, not on which.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from trueoracle.nets import Sites, cost, remove, unit_costs
from trueoracle.selection.latency import latency
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import SpecError
from trueoracle.words.shape import InputShape, Shape
from trueoracle.words.spec import ratio_of

Way = dict[str, float]

WORDS = {"macs": "operations", "parameters": "parameters", "latency": "latency"}
_STEPS = 200  # how finely the strength of pruning is searched
_BATCH = 32  # images, in which latency is measured


@dataclass(frozen=True, kw_only=True)
class Limit:
    """At most this `share` of what the whole network needs of one of `WORDS`."""

    what: str
    share: float

    def __str__(self) -> str:
        return f"at most {self.share:.4g} of the {WORDS[self.what]}"


def limit_of(**asked: float | None) -> Limit | None:
    """The one limit that is asked for; `SpecError` for two of them, or a share that is none."""
    given = {what: share for what, share in asked.items() if share is not None}
    if len(given) > 1:
        raise SpecError(f"{' and '.join(f'`{what}`' for what in given)} are two limits: give one")
    for what, share in given.items():
        if not 0 < share < 1:
            raise SpecError(f"`{what}` must be a share of the whole network's in (0, 1), but got {share}")
        return Limit(what=what, share=share)
    return None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Finds the ways to prune `net` that meet a limit; `round_to` units, or a multiple of them, are left of every site."""

    net: nn.Module
    shape: Shape
    sites: Sites
    round_to: int = 1
    _known: dict[tuple[str, tuple[tuple[str, int], ...]], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.round_to < 1:
            raise SpecError(f"`round_to` must be at least 1, but got {self.round_to}")

    def among(self, given: Sequence[Mapping[str, float]], limit: Limit) -> list[Way]:
        """Those of the given ways that meet the limit, without those that prune more at every site than another such one.

        `SpecError` where none meets it.
        """
        ways = [self.rounded(way) for way in given]
        needs = [self.share(way, limit.what) for way in ways]
        within = [way for way, need in zip(ways, needs, strict=True) if need <= limit.share]
        if not within:
            raise SpecError(f"no way to prune that is given leaves {limit}: the nearest leaves {min(needs):.3f}")
        least = [way for way in within if not any(self._spares(other, way) for other in within)]
        return [way for place, way in enumerate(least) if way not in least[:place]]

    def found(self, patterns: Sequence[str], limit: Limit) -> list[Way]:
        """Ways to prune these sites (names or globs) no more than the limit asks for; `SpecError` where it cannot be met.

        Of three kinds: all sites alike; more from those later in the network; more from those whose loss saves most.
        """
        names = [name for pattern in patterns for name in self.sites.matching(pattern)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise SpecError(f"the site `{twice[0]}` is named twice")
        ways = [self._just(strengths, limit) for strengths in self._kinds(names, limit)]
        return [way for place, way in enumerate(ways) if way not in ways[:place]]

    def rounded(self, way: Mapping[str, float]) -> Way:
        """The way with as many more or fewer units pruned as leave the multiple of `round_to` that is nearest."""
        if self.round_to == 1:
            return dict(way)
        kept = {
            site: self.sites[site].units - self._pruned(site, ratio) for site, ratio in self.sites.expanded(way).items()
        }
        left = {site: max(1, round(units / self.round_to)) * self.round_to for site, units in kept.items()}
        return self._way({site: self.sites[site].units - units for site, units in left.items()})

    def share(self, way: Mapping[str, float], what: str) -> float:
        """What the network needs after so much pruning, of what it needs whole."""
        counts = {site: self._pruned(site, ratio) for site, ratio in self.sites.expanded(way).items()}
        key = what, tuple(counts.items())
        if key not in self._known:
            choices = tuple(SiteChoice(site=s, units=self.sites[s].units, pruned=n) for s, n in counts.items())
            pruned = remove(self.net, MaskSpace(choices).unrank(0), self.sites)
            self._known[key] = self._measured(pruned, what)
        return self._known[key]

    def _measured(self, pruned: nn.Module, what: str) -> float:
        if what == "latency":
            return _quickest(pruned, self.shape) / _quickest(self.net, self.shape)
        before, after = cost(self.net, self.shape), cost(pruned, self.shape)
        return after.macs / before.macs if what == "macs" else after.parameters / before.parameters

    def _kinds(self, names: Sequence[str], limit: Limit) -> Iterator[dict[str, float]]:
        """How hard each site is pruned beside the others."""
        yield dict.fromkeys(names, 1.0)
        if len(names) > 1:
            rising = [0.5 + place / (len(names) - 1) for place in range(len(names))]
            yield dict(zip(names, rising, strict=True))
            saved = {site.name: found for site, found in unit_costs(self.net, self.sites, self.shape)}
            worth = {n: (saved[n].parameters if limit.what == "parameters" else saved[n].macs) for n in names}
            yield dict(zip(sorted(names, key=lambda n: worth[n] * self.sites[n].units), rising, strict=True))

    def _just(self, strengths: Mapping[str, float], limit: Limit) -> Way:
        """The weakest pruning of this kind that meets the limit."""
        most = self._at(strengths, _STEPS)
        if not most or (least := self.share(most, limit.what)) > limit.share:
            left = f"{least:.3f}" if most else "all"
            raise SpecError(f"no mask leaves {limit}: pruning these sites as far as they go leaves {left}")
        low, high = 0, _STEPS
        while high - low > 1:
            middle = (low + high) // 2
            way = self._at(strengths, middle)
            if way and self.share(way, limit.what) <= limit.share:
                high = middle
            else:
                low = middle
        return self._at(strengths, high)

    def _at(self, strengths: Mapping[str, float], step: int) -> Way:
        """The way of this strength; sites of which it prunes nothing are left out."""
        weakest = min(strengths.values())
        counts = {}
        for site, strength in strengths.items():
            units = self.sites[site].units
            kept = units - int(units * min(1.0, strength / weakest * step / _STEPS))
            counts[site] = units - max(self.round_to, kept // self.round_to * self.round_to)
        return self._way({site: pruned for site, pruned in counts.items() if pruned > 0})

    def _way(self, counts: Mapping[str, int]) -> Way:
        """As ratios; `SpecError` where a site would lose nothing or everything."""
        for site, pruned in counts.items():
            units = self.sites[site].units
            if not 0 < pruned < units:
                raise SpecError(f"`{site}` has {units} units: none can go if a multiple of {self.round_to} is to stay")
        return {site: ratio_of(pruned, self.sites[site].units) for site, pruned in counts.items()}

    def _pruned(self, site: str, ratio: float) -> int:
        return SiteChoice.at_ratio(site, self.sites[site].units, ratio).pruned

    def _spares(self, one: Way, other: Way) -> bool:
        """Whether `one` prunes fewer units than `other` somewhere, and nowhere more."""
        counts = [
            {site: self._pruned(site, ratio) for site, ratio in self.sites.expanded(way).items()}
            for way in (one, other)
        ]
        differ = [counts[0].get(site, 0) - counts[1].get(site, 0) for site in {*counts[0], *counts[1]}]
        return max(differ) <= 0 and min(differ) < 0


def _quickest(net: nn.Module, shape: Shape) -> float:
    """Seconds for a batch of 32 images on one thread, the lower quartile: what else the machine does only adds to it."""
    if not isinstance(shape, InputShape):
        raise SpecError(
            "`latency` is measured on images, which this network does not take: limit `macs` or `parameters`"
        )
    generator = torch.Generator().manual_seed(0)
    images_BCHW = torch.randn(_BATCH, shape.channels, shape.height, shape.width, generator=generator)
    first = next(net.parameters())
    with torch.no_grad():
        return latency(net, images_BCHW.to(first)).low
