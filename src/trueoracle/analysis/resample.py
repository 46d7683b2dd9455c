"""The bootstrap of a cell's correlations: masks drawn with replacement, each with all its repeats.

Repeats are not drawn again within a drawn mask: its mean already holds the noise of its repeats once, and drawing
them again would count that noise twice and pull tau towards zero (Davison and Hinkley, Bootstrap Methods, 1997, 3.8).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.analysis import compiled
from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.rank import Ranked
from trueoracle.analysis.result import Absent, Interval
from trueoracle.words.seeding import derive_seed

LEAST = 10  # fewer masks cannot bear a bootstrap
_ENTRIES = 4_000_000  # random numbers held at a time


def draws(n: int) -> int:
    """How many resamples or relabellings of n masks: 9,999, for more than 4,000 masks fewer, never under 999."""
    return int(np.clip(40_000_000 // n - 1, 999, 9_999))


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on what they are for, on nothing else."""
    return np.random.default_rng(derive_seed(str(seed), "/".join(names)))


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Kendall's tau, Spearman's rho and Pearson's r of resamples in which neither x nor y was constant; the last two may be unknown."""

    tau: Values
    rho: Values | None
    r: Values | None


def resample(x: Values, y: Values, number: int, rng: np.random.Generator) -> Resamples | Absent:
    """`number` resamples of the points (x, y). Which points are drawn depends on `rng` and n alone."""
    n = len(x)
    if n < LEAST:
        return Absent(why=f"{n} masks cannot bear a bootstrap: it takes {LEAST}")
    ranked = Ranked.of(x, y)
    place = np.argsort(ranked.order)
    x, y = x[ranked.order], y[ranked.order]
    found = np.concatenate(
        [
            compiled.resampled(x, y, ranked.x_group, ranked.y_rank, place[rng.integers(0, n, size=(b, n))])
            for b in chunks(number, n)
        ]
    )
    found = found[np.isfinite(found).all(axis=1)]
    if len(found) < number / 2:
        return Absent(why="nearly all values are equal: most resamples are constant")
    return Resamples(tau=found[:, 0], rho=found[:, 1], r=found[:, 2])


def chunks(total: int, n: int) -> list[int]:
    """`total` draws of n numbers in groups that fit in memory."""
    step = max(1, _ENTRIES // n)
    return [min(step, total - start) for start in range(0, total, step)]


def interval(values: Values | Absent, level: float = 0.95) -> Interval | Absent:
    """The percentile interval of bootstrap values."""
    if isinstance(values, Absent):
        return values
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def p_within(tau: float, deviation: float, margin: float) -> float:
    """P of the two one-sided tests of |tau| >= margin: the larger, by the normal distribution with this deviation."""
    if deviation == 0:
        return float(abs(tau) >= margin)
    return float(stats.norm.sf((margin - abs(tau)) / deviation))


def of_space(
    cell: CellMasks, tau: float, drawn: Resamples | Absent, again: Values | Absent, exhaustive: bool
) -> Resamples | Absent:
    """The resamples for a space that is finite: masks count as drawn only as far as there are others.

    Of N masks n were drawn, so the variance that drawing adds is (1 - n / N) of what the bootstrap shows beyond
    retraining (`again`). Where n = N retraining alone is left, and tau alone can be said.
    """
    n, space = cell.n, cell.n if exhaustive else cell.space
    if space is None or isinstance(drawn, Absent):
        return drawn
    if n >= space:
        if isinstance(again, Absent):
            return Absent(why=f"every mask of the space is here, so none were drawn; {again.why}")
        return Resamples(tau=again, rho=None, r=None)
    left = 1 - n / space
    noise = 0.0 if isinstance(again, Absent) else min(1.0, float(again.var() / max(drawn.tau.var(), 1e-300)))
    scale = float(np.sqrt(left + (1 - left) * noise))

    def drawn_in(values: Values | None) -> Values | None:
        return None if values is None else np.asarray(np.median(values) + scale * (values - np.median(values)))

    return Resamples(tau=tau + scale * (drawn.tau - tau), rho=drawn_in(drawn.rho), r=drawn_in(drawn.r))


def retrained(cell: CellMasks, x: Values, number: int, rng: np.random.Generator) -> Values | Absent:
    """What other retrainings of the same masks would give for tau, laid around tau: repeats drawn within each mask.

    Each mask's deviations from its mean are drawn with replacement and stretched by sqrt(R / (R - 1)), so that a mean of
    R of them has the variance of a mean of R repeats. They are added to the means shrunk to the variance that is the
    masks' own, for the means hold noise already. As that still lowers every tau alike, the spread of
    the drawn taus around their own mean is laid around tau.
    """
    count_n = np.isfinite(cell.y_nR).sum(axis=1)
    if count_n.min() < 2:
        return Absent(why="of some mask one result is known: how much repeats differ is not")
    deviation_nR, R = deviations(cell), cell.y_nR.shape[1]
    packed = np.take_along_axis(deviation_nR, np.argsort(~np.isfinite(cell.y_nR), axis=1, kind="stable"), axis=1)
    shrunk_n = _shrunk(cell, np.nansum(deviation_nR**2, axis=1) / count_n**2)
    ranked = Ranked.of(x, cell.y)
    taus = []
    for b in chunks(min(1_999, number), cell.n * R):
        place_BnR = (rng.random((b, cell.n, R)) * count_n[:, None]).astype(np.int64)
        drawn_BnR = np.where(np.arange(R) < count_n[:, None], packed[np.arange(cell.n)[:, None], place_BnR], 0.0)
        again_Bn = cell.y_metric.measured(shrunk_n + drawn_BnR.sum(axis=2) / count_n)
        taus.append(compiled.against(ranked.x_group, again_Bn[:, ranked.order]))
    tau = np.concatenate(taus)
    return np.asarray(np.clip(ranked.tau + tau - tau.mean(), -1.0, 1.0))


def _shrunk(cell: CellMasks, variance_n: Values) -> Values:
    """The means drawn together until they vary as the masks' expected results do; their noise has `variance_n`."""
    own = max(0.0, 1 - float(variance_n.mean()) / float(cell.raw_y.var(ddof=1)))
    return np.asarray(cell.raw_y.mean() + np.sqrt(own) * (cell.raw_y - cell.raw_y.mean()))


def deviations(cell: CellMasks) -> NDArray[np.float64]:
    """Each repeat minus its mask's mean, stretched by sqrt(R / (R - 1)); NaN where there is no repeat."""
    count_n = np.isfinite(cell.y_nR).sum(axis=1, keepdims=True)
    return np.asarray((cell.y_nR - cell.raw_y[:, None]) * np.sqrt(count_n / np.maximum(1, count_n - 1)))
