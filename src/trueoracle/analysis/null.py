"""The null of masks that share units: tau where the labels of the units of each site are permuted.

Relabelling keeps which masks overlap and by how much, so the null taus spread as widely as chance alignment of unit
effects makes them. B relabellings, n masks, U units.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import permutations, product
from math import ceil, comb, factorial, prod
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from trueoracle.analysis import compiled
from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.rank import Ranked, kendall_tau
from trueoracle.analysis.resample import chunks
from trueoracle.analysis.result import Absent, NullKind, UnitNull
from trueoracle.analysis.units import Kept, MainEffects, Units

LossFunction = Callable[[CellMasks, Kept], Values]
"""Pruned train losses (n,) of the masks that keep the units `kept_nU`, the sites' units side by side in the cell's order."""


class Unavailable(Exception):
    """Raised by a loss function that cannot say what relabelled masks lose, with the reason."""


LOSS_DRAWS = 999
_SHOWN = 2_000
_SAME = 1e-9  # taus of equal concordance may differ in their last bits
_ENOUGH = 10  # relabellings as extreme as the study's own labelling, after which p is known well enough
_FLOORS = 4  # the least p that can come out is a fourth of what a corrected test must see to reject


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How many relabellings to draw: `first`, and on to `most` while fewer than 10 are as extreme as the study's own labelling.

    Drawing until decided is Besag and Clifford's sequential Monte Carlo test (Biometrika 78, 1991).
    """

    first: int
    most: int

    @classmethod
    def enough(cls, first: int, cells: int, alpha: float) -> Self:
        """As many as Holm's correction over so many cells may need: its first step rejects below alpha / cells."""
        return cls(first=first, most=max(first, ceil(_FLOORS * cells / alpha)))


def unit_null(
    cell: CellMasks,
    x: str,
    units: Units | Absent,
    draws: Draws,
    rng: np.random.Generator,
    losses: LossFunction | None = None,
) -> UnitNull | Absent:
    """The null of predictor `x` against the cell's result, by the best way there is (see `NullKind`).

    Every relabelling is taken where there are no more than the first draws; `losses` is called for 999 at first.
    """
    if isinstance(units, Absent):
        return units
    values, n = cell.promise(x), cell.n
    tau = kendall_tau(values, cell.y)
    if units.exhaustive:
        labels = prod(factorial(size) for size in units.sizes.values())
        if labels <= draws.first:
            return _null(NullKind.ALL, tau, _closed(values, cell.y, units, [_every(units)]))
        return _sequential(
            NullKind.RANDOM,
            tau,
            lambda b: _closed(values, cell.y, units, (_random(units, part, rng) for part in chunks(b, n))),
            draws,
        )
    if losses is not None:
        few = replace(draws, first=min(draws.first, LOSS_DRAWS))
        with suppress(Unavailable):  # the kind of null says that the model stands in
            return _sequential(NullKind.LOSS_FUNCTION, tau, lambda b: _evaluated(cell, units, b, rng, losses), few)
    model = units.fit(normal_scores(values))
    if isinstance(model, Absent):
        return model
    return _sequential(NullKind.MAIN_EFFECTS, tau, lambda b: _modelled(model, cell.y, units, b, rng), draws)


def _sequential(kind: NullKind, tau: float, draw: Callable[[int], Values], draws: Draws) -> UnitNull:
    parts = [draw(draws.first)]
    while sum(_extreme(part, tau) for part in parts) < _ENOUGH and (total := sum(map(len, parts))) < draws.most:
        parts.append(draw(min(draws.first, draws.most - total)))
    return _null(kind, tau, np.concatenate(parts))


def _extreme(taus: Values, tau: float) -> int:
    return int((np.abs(taus) >= abs(tau) - _SAME).sum())


def _null(kind: NullKind, tau: float, taus: Values) -> UnitNull:
    """P counts the labelling that is the study's own: among all of them it is one, to random ones it is added."""
    extreme, exact = _extreme(taus, tau), kind is NullKind.ALL
    total = len(taus) if exact else len(taus) + 1
    p = (extreme if exact else extreme + 1) / total
    return UnitNull(
        kind=kind,
        relabellings=total,
        p=p,
        p_at_most=extreme == 0,
        p_error=0.0 if exact else float(np.sqrt(p * (1 - p) / total)),
        abs_tau_95=float(np.quantile(np.abs(taus), 0.95)),
        taus=tuple(taus[:: -(-len(taus) // _SHOWN)].tolist()),
    )


def _closed(
    x: Values, y: Values, units: Units, label_groups: Iterator[NDArray[np.int64]] | list[NDArray[np.int64]]
) -> Values:
    """Over all masks of a space, x of a mask against y of the relabelled one: no loss is computed anew."""
    ranked = Ranked.of(x, y)
    kept_nU = units.kept_nU[ranked.order]
    choose = np.array([[comb(n, k) for k in range(1 + max(units.keeps))] for n in range(1 + max(units.sizes.values()))])
    row_of = np.argsort(mask_ranks(kept_nU, units, choose))
    found = [
        compiled.relabelled(ranked.x_group, ranked.y_rank, kept_nU, units.site_of, choose, row_of, labels)
        for labels in label_groups
    ]
    return np.asarray(np.concatenate(found) / ranked.denominator)


def mask_ranks(kept_nU: Kept, units: Units, choose: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each mask's rank in the space: a mixed-radix number of the sites' ranks in the combinatorial number system."""
    rank_n = np.zeros(len(kept_nU), np.int64)
    for start, size, keeps in zip(units.first, units.sizes.values(), units.keeps, strict=True):
        part = kept_nU[:, start : start + size]
        digits = choose[np.arange(size), np.minimum(np.cumsum(part, axis=1), keeps)]
        rank_n = rank_n * choose[size, keeps] + (digits * part).sum(axis=1)
    return rank_n


def _random(units: Units, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`number` relabellings, each of shape (U,): a unit's new label within its site."""
    parts = [rng.permuted(np.tile(np.arange(size), (number, 1)), axis=1) for size in units.sizes.values()]
    return np.concatenate(parts, axis=1)


def _every(units: Units) -> NDArray[np.int64]:
    every = product(*(permutations(range(size)) for size in units.sizes.values()))
    return np.array([[label for site in one for label in site] for one in every], np.int64)


def _columns(units: Units, label_U: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each unit finds the one whose label it takes, counted over all sites."""
    return np.asarray(label_U + np.array(units.first)[units.site_of])


def _evaluated(cell: CellMasks, units: Units, number: int, rng: np.random.Generator, losses: LossFunction) -> Values:
    ranked = Ranked.of(cell.y, cell.y)
    rows = [
        np.asarray(losses(cell, units.kept_nU[:, _columns(units, labels)]), float)[ranked.order]
        for labels in _random(units, number, rng)
    ]
    return np.asarray(compiled.against(ranked.x_group, np.array(rows)))


def normal_scores(values: Values) -> Values:
    """The ranks as quantiles of the normal distribution: tau is the same, and skewness no longer looks like interaction."""
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)))


def _modelled(model: MainEffects, y: Values, units: Units, number: int, rng: np.random.Generator) -> Values:
    """X of relabelled masks by a model with main effects. What it leaves unexplained is shuffled among the masks.

    A fit explains too much by chance: its part is shrunk, and the rest stretched, to the adjusted share of variance.
    """
    effect_U = model.effect_U * np.sqrt(model.share / model.raw_share) if model.raw_share > 0 else model.effect_U
    rest_n = model.residual_n * (np.sqrt((1 - model.share) / (1 - model.raw_share)) if model.raw_share < 1 else 1.0)
    ranked, n = Ranked.of(y, y), len(y)
    kept_nU = units.kept_nU.astype(float)
    found = []
    for b in chunks(number, n):
        columns_BU = _columns(units, _random(units, b, rng))
        fitted_Bn = effect_U[columns_BU] @ kept_nU.T
        rest_Bn = rng.permuted(np.tile(rest_n, (b, 1)), axis=1)
        found.append(compiled.against(ranked.x_group, (fitted_Bn + rest_Bn)[:, ranked.order]))
    return np.concatenate(found)
