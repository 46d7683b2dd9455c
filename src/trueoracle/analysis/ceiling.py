"""The noise ceiling on these images: Kendall's tau between what masks end with on average and the means of R repeats.

Three steps, none of which takes the masks for normally distributed at the end. (1) Reliability: how far two repeats of
the masks agree in rank (tau-b), turned into a correlation by Greiner's relation r = sin(pi tau / 2) and to R repeats by
Spearman and Brown's formula. (2) The masks' expected results: the distribution that, blurred by the noise, gives the observed
means; found by EM on a grid of quantiles, each step smoothed (Silverman et al., J. R. Stat. Soc. B 52, 1990), the
noise being that of the masks which end alike. It starts from the observed means shrunk by the reliability, and stops early.
(3) tau-b between such results and the same with noise, whose ranks take the observed means' values, ties and all.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.resample import LEAST, generator
from trueoracle.analysis.result import Absent, Ceiling

_GRID, _STEPS, _SMOOTHING, _DRAWS = 32, 20, 0.1, 50


def ceiling(cell: CellMasks, seed: int) -> Ceiling | Absent:
    """The ceiling of the cell on these images. Masks that lack a repeat others have are left aside."""
    complete = cell.y_nR[np.isfinite(cell.y_nR).all(axis=1)]
    n, R = complete.shape
    if R < 2:
        return Absent(why="one result a mask is known: how much repeats of one mask differ is not")
    if n < LEAST:
        return Absent(why=f"{n} masks with all their repeats are too few: it takes {LEAST}")
    measured = cell.y_metric.measured(complete)
    if (np.ptp(measured, axis=0) == 0).any():
        return Absent(why="all masks end alike in some repeat")
    means = cell.y_metric.measured(complete.mean(axis=1))
    single = np.mean([kendall_tau(a, b) for a, b in _pairs(measured)])
    reliability = float(to_repeats(np.array(single), R))
    return Ceiling(
        repeats=float(R),
        repeat_deviation=float(np.sqrt(complete.var(axis=1, ddof=1).mean())),
        reliability=reliability,
        tau=reached(means, complete.var(axis=1, ddof=1) / R, reliability, generator(seed, cell.group, "ceiling")),
    )


def to_repeats(tau_B: Values, R: int) -> Values:
    """Reliability of the mean of R repeats, from Kendall's tau between single ones."""
    single = np.sin(np.pi / 2 * np.clip(tau_B, 0.0, 1.0))
    return np.asarray(R * single / (1 + (R - 1) * single))


def reached(means: Values, variance_n: Values, reliability: float, rng: np.random.Generator) -> float:
    """Steps 2 and 3: tau between expected results and means, for observed `means` (n,) of noise variance `variance_n`."""
    if reliability <= 0:
        return 0.0
    n, order = len(means), np.argsort(means, kind="stable")
    sorted_n, noise_n = means[order], _running_deviation(variance_n[order])
    expected_n = _unblurred(sorted_n, noise_n, reliability)
    deviation_n = np.interp(expected_n, sorted_n, noise_n)
    taus = []
    for _ in range(_DRAWS):
        rank = np.argsort(np.argsort(expected_n + deviation_n * rng.standard_normal(n)))
        taus.append(kendall_tau(np.arange(float(n)), sorted_n[rank]))
    return float(np.clip(np.mean(taus), 0.0, 1.0))


def _unblurred(sorted_n: Values, noise_n: Values, reliability: float) -> Values:
    """N quantiles of the distribution of expected results."""
    n, span = len(sorted_n), sorted_n[-1] - sorted_n[0]
    grid = np.quantile(sorted_n, (np.arange(_GRID) + 0.5) / _GRID) + 1e-9 * span * np.arange(_GRID)
    edges = np.concatenate([[grid[0] - 1e-9 * span], (grid[1:] + grid[:-1]) / 2, [grid[-1] + 1e-9 * span]])
    noise = np.maximum(np.interp(grid, sorted_n, noise_n), 1e-6 * span)
    sample = sorted_n[:: max(1, n // 2_000)]
    likelihood = np.exp(-0.5 * ((sample[:, None] - grid) / noise) ** 2) / noise + 1e-300
    score = stats.norm.ppf((np.arange(n) + 0.5) / n)
    shrunk = np.interp(stats.norm.cdf(np.sqrt(reliability) * score) * n - 0.5, np.arange(n), sorted_n)
    weight = np.histogram(np.clip(shrunk, edges[0], edges[-1]), edges)[0] + 0.1
    for _ in range(_STEPS):
        posterior = likelihood * (weight / weight.sum())
        weight = (posterior / posterior.sum(axis=1, keepdims=True)).mean(axis=0)
        beside = np.pad(weight, 1, mode="edge")
        weight = (1 - _SMOOTHING) * weight + _SMOOTHING / 2 * (beside[:-2] + beside[2:])
    below = np.concatenate([[0.0], np.cumsum(weight / weight.sum())])
    return np.asarray(np.interp((np.arange(n) + 0.5) / n, below, edges))


def _running_deviation(variance_n: Values) -> Values:
    """The noise's standard deviation among the masks around each, a tenth of all but at least 21."""
    n = len(variance_n)
    window = min(max(21, n // 10), n) | 1
    half = min(window // 2, n - 1)
    padded = np.concatenate([[0.0], np.cumsum(np.pad(variance_n, half, mode="reflect"))])
    return np.asarray(np.sqrt(np.maximum(0.0, padded[2 * half + 1 :] - padded[: -2 * half - 1]) / (2 * half + 1)))


def _pairs(measured_nR: NDArray[np.float64]) -> list[tuple[Values, Values]]:
    """Each repeat with the next, the last with the first."""
    R = measured_nR.shape[1]
    return [(measured_nR[:, r], measured_nR[:, (r + 1) % R]) for r in range(R if R > 2 else 1)]
