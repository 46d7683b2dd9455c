"""What a mask chosen by x is worth after retraining: regret, percentile, the best k. Lower `promise` is preferred by x."""

import numpy as np
from scipy import stats

from trueoracle.analysis.masks import CellMasks, Values, as_measured, x_sign
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.resample import interval, resample
from trueoracle.analysis.result import Absent, AtK, Choice, Interval

KS = (1, 5, 10, 20)
TENTH_LEAST = 30  # a tenth of fewer masks is no more than two


def choice(cell: CellMasks, x: str, number: int, rng: np.random.Generator) -> Choice:
    """The figures of choosing by `x`; the interval of the tenth's tau from `number` resamples."""
    promise = x_sign(x) * as_measured(cell.x[x], x)
    goodness = cell.y_sign * cell.y
    oracle = int(np.argmin(promise))
    better = better_than(cell.y_sign * cell.raw_y, oracle)
    regret, interval_, noise = _regret(cell, oracle)
    observed = float(goodness.max() - goodness[oracle])
    tenth = np.argsort(promise, kind="stable")[: -(-cell.n // 10)]
    tenth_tau, tenth_interval = _within(cell.x[x][tenth], cell.y[tenth], cell.n, number, rng)
    return Choice(
        oracle_mask=cell.mask[oracle] if cell.mask is not None else None,
        oracle_x=float(cell.x[x][oracle]),
        oracle_result=float(cell.raw_y[oracle]),
        best_result=float(cell.y_sign * goodness.max()),
        regret=observed if isinstance(regret, Absent) else regret,
        regret_held_out=not isinstance(regret, Absent),
        regret_interval=interval_,
        regret_in_noise=noise,
        observed_regret=observed,
        percentile=percentile(goodness, oracle),
        anomalies=int(better.sum()),
        anomaly_ratio=float(better.mean()),
        tied_with_oracle=int((goodness == goodness[oracle]).sum()) - 1,
        at=tuple(at_k(promise, goodness, k) for k in KS if k == 1 or 2 * k <= cell.n),
        tenth_n=len(tenth),
        tenth_tau=tenth_tau,
        tenth_interval=tenth_interval,
    )


def _regret(cell: CellMasks, oracle: int) -> tuple[float | Absent, Interval | Absent, float | Absent]:
    """Regret, its interval, and regret in deviations of one retraining.

    The mask with the best observed mean owes some of it to luck (the winner's curse). So each repeat in turn is
    held out: the others pick the best mask, the one held out measures it; the average is what a mask so picked is worth.
    """
    had_nR = np.isfinite(cell.y_nR)
    if not (had_nR.sum(axis=1) >= 2).all():
        why = Absent(why="of some mask one result is known: its luck cannot be told from its worth")
        return why, why, why
    count_n = had_nR.sum(axis=1)
    spread = np.nansum((cell.y_nR - cell.raw_y[:, None]) ** 2)
    freedom = int((count_n - 1).sum())
    held = []
    for r in range(cell.y_nR.shape[1]):
        others = (np.nansum(cell.y_nR, axis=1) - np.nan_to_num(cell.y_nR[:, r])) / np.maximum(1, count_n - had_nR[:, r])
        picked = int(np.argmax(np.where(had_nR[:, r], cell.y_sign * others, -np.inf)))
        held.append(cell.y_nR[picked, r])
    regret = float(cell.y_sign * (np.mean(held) - cell.raw_y[oracle]))
    deviation = float(np.sqrt(spread / freedom))
    if deviation == 0:
        why = Absent(why="repeats of one mask do not differ at all")
        return regret, why, why
    half = float(stats.t.ppf(0.975, freedom)) * deviation * np.sqrt(1 / len(held) + 1 / count_n[oracle])
    return regret, Interval(low=float(regret - half), high=float(regret + half)), regret / deviation


def _within(
    x: Values, y: Values, n: int, number: int, rng: np.random.Generator
) -> tuple[float | Absent, Interval | Absent]:
    """Kendall's tau within a tenth of n masks."""
    why = None
    if n < TENTH_LEAST:
        why = Absent(why=f"a tenth of {n} masks is too few to correlate: it takes {TENTH_LEAST} masks")
    elif np.ptp(x) == 0 or np.ptp(y) == 0:
        why = Absent(why="all masks of the tenth are equal")
    if why is not None:
        return why, why
    drawn = resample(x, y, number, rng)
    return kendall_tau(x, y), interval(drawn if isinstance(drawn, Absent) else drawn.tau)


def better_than(goodness: Values, one: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which masks have strictly higher `goodness` than mask `one`."""
    return np.asarray(goodness > goodness[one])


def percentile(goodness: Values, one: int) -> float:
    """Share of the other masks that are worse than mask `one`, ties counted half."""
    worse, tied = (goodness < goodness[one]).sum(), (goodness == goodness[one]).sum() - 1
    return float((worse + tied / 2) / (len(goodness) - 1))


def at_k(promise: Values, goodness: Values, k: int) -> AtK:
    """The k masks of lowest `promise` (the first where several tie) against `goodness`."""
    chosen = np.argsort(promise, kind="stable")[:k]
    ascending = np.sort(goodness)
    better = len(goodness) - np.searchsorted(ascending, goodness[chosen], side="right")
    return AtK(
        k=k,
        precision=float((better < k).mean()),
        chance_precision=k / len(goodness),
        best_rank=int(better.min()) + 1,
        anomaly_ratio=float(better.mean() / len(goodness)),
        anomaly_ratio_low=float(better.min() / len(goodness)),
        anomaly_ratio_high=float(better.max() / len(goodness)),
    )
