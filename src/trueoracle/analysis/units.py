"""Which units each mask keeps, as an array, and what a model with one effect a unit explains. n masks, U units.

Single weights are units too. Relabelling them is right where it leaves the space of masks as it is: at a ratio all weights
of a group may change places, across the layers that are pooled; of a pattern N:M only the M of one row may. So a row counts
as a site of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.result import Absent
from trueoracle.space import WeightSpace
from trueoracle.words.errors import TableError
from trueoracle.words.mask import WeightMask, read_mask

Kept = NDArray[np.bool_]

_TWICE = "some rows are of the same mask: average them first"


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
            return Absent(why=too_few(n, self.effects))
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
    masks = [_parse(text) for text in cell.pruned]
    of_weights = [mask for mask in masks if isinstance(mask, WeightMask)]
    if of_weights:
        return _weights(of_weights, cell.n)
    pruned = [mask for mask in masks if not isinstance(mask, WeightMask)]
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
        return Absent(why=_TWICE)
    if cell.units is None and not units.exhaustive:
        return Absent(
            why="the table holds a draw of masks and does not say how many units each site has: analyse the stored study"
        )
    return units


def too_few(n: int, effects: int) -> str:
    """Why `n` masks have no model of main effects."""
    return f"{n} masks cannot bear a model of {effects:,} free unit effects: it takes twice as many"


def _weights(masks: Sequence[WeightMask], n: int) -> Units | Absent:
    """Row after row; nothing is unpacked where there are too few masks for anything to be said."""
    groups = masks[0].groups
    if len(masks) < n or any(mask.groups != groups for mask in masks):
        return Absent(why="the masks do not all prune the same weights, so relabelling them means nothing")
    effects = sum(group.units - group.rows for group in groups)
    if n < 2 * effects + 2 and n != WeightSpace(groups).count:
        return Absent(why=too_few(n, effects))
    if len({mask.rank for mask in masks}) < n:
        return Absent(why=_TWICE)
    return Units(
        sizes={f"{group.site}, row {row}": group.row for group in groups for row in range(group.rows)},
        kept_nU=~np.array([np.concatenate([*mask.gone_by_site.values()]) for mask in masks]),
    )


def _parse(text: str) -> dict[str, list[int]] | WeightMask:
    try:
        return read_mask(text)
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
