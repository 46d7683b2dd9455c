"""Which units each mask keeps, as an array, and what a model with one effect a unit explains. n masks, U units."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.result import Absent
from trueoracle.words.errors import TableError

Kept = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Units:
    """`kept_nU` over the units of all sites side by side; `sizes` says of each site, in order, how many it has."""

    sizes: Mapping[str, int]
    kept_nU: Kept

    @cached_property
    def site_of(self) -> NDArray[np.int64]:
        """The number of each unit's site."""
        return np.repeat(np.arange(len(self.sizes)), list(self.sizes.values()))

    @cached_property
    def first(self) -> tuple[int, ...]:
        """Where each site's units begin."""
        return tuple(int(start) for start in np.searchsorted(self.site_of, np.arange(len(self.sizes))))

    @cached_property
    def keeps(self) -> tuple[int, ...]:
        """How many units each site keeps."""
        return tuple(int(total) for total in np.add.reduceat(self.kept_nU[0].astype(int), self.first))

    @property
    def exhaustive(self) -> bool:
        """Whether the (distinct) masks are all there are: then relabelling the units maps their set on itself."""
        return len(self.kept_nU) == prod(map(comb, self.sizes.values(), self.keeps))

    @property
    def effects(self) -> int:
        """Free effects of a model with one effect a unit: as each site keeps a fixed number, one less than it has units."""
        return sum(self.sizes.values()) - len(self.sizes)

    def fit(self, values: Values) -> "MainEffects | Absent":
        """The model of `values` (n,) with one effect a unit, least squares; needs twice as many masks as effects."""
        n = len(values)
        if n < 2 * self.effects + 2:
            return Absent(
                why=f"{n} masks cannot bear a model of {self.effects} free unit effects: it takes twice as many"
            )
        centred = self.kept_nU - self.kept_nU.mean(axis=0)
        effect_U, _, rank, _ = np.linalg.lstsq(centred, values - values.mean(), rcond=None)
        fitted = centred @ effect_U
        residual = values - values.mean() - fitted
        unexplained = float((residual**2).sum() / ((values - values.mean()) ** 2).sum())
        share = max(0.0, 1 - unexplained * (n - 1) / (n - 1 - int(rank)))
        return MainEffects(effect_U=effect_U, residual_n=residual, raw_share=1 - unexplained, share=share)


@dataclass(frozen=True, kw_only=True)
class MainEffects:
    """Effects of keeping each unit and what they leave; `share` of the variance explained, adjusted for the fit's freedom."""

    effect_U: Values
    residual_n: Values
    raw_share: float
    share: float


def units_of(cell: CellMasks) -> Units | Absent:
    """The units of the cell's masks; the sites' sizes are known to the store or betrayed by an exhaustive table."""
    if cell.pruned is None:
        return Absent(
            why="there is no column `pruned` that says which units each mask removes, so the units that masks share are unknown"
        )
    pruned = [_parse(text) for text in cell.pruned]
    sites = pruned[0].keys()
    counts = {site: len(units) for site, units in pruned[0].items()}
    for mask in pruned:
        if mask.keys() != sites or any(len(mask[site]) != counts[site] for site in sites):
            return Absent(
                why="the masks do not all prune the same number of units of the same sites, so relabelling units means nothing"
            )
    sizes = (
        dict(cell.units)
        if cell.units is not None
        else {s: 1 + max(max(m[s], default=0) for m in pruned) for s in sites}
    )
    units = Units(sizes={site: sizes[site] for site in sites}, kept_nU=_kept(pruned, sizes))
    if len(np.unique(units.kept_nU, axis=0)) < cell.n:
        return Absent(why="some rows are of the same mask: average them first")
    if cell.units is None and not units.exhaustive:
        return Absent(
            why="the table holds a draw of masks and does not say how many units each site has: analyse the stored study"
        )
    return units


def _parse(text: str) -> dict[str, list[int]]:
    try:
        found = json.loads(text)
        return {str(site): [int(unit) for unit in units] for site, units in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise TableError(f'column `pruned` must hold JSON such as {{"conv1": [0, 3]}}, but holds `{text}`') from None


def _kept(pruned: list[dict[str, list[int]]], sizes: Mapping[str, int]) -> Kept:
    parts = []
    for site in pruned[0]:
        part = np.ones((len(pruned), sizes[site]), np.bool_)
        for row, mask in enumerate(pruned):
            part[row, mask[site]] = False
        parts.append(part)
    return np.concatenate(parts, axis=1)
