"""What a mask chosen by x is worth after retraining: regret, percentile, the best k. Lower `promise` is preferred by x."""

import numpy as np

from trueoracle.analysis.masks import CellMasks, Values, as_measured, x_sign
from trueoracle.analysis.result import Absent, AtK, Choice

KS = (1, 5, 10, 20)
_LATER = Absent(why="not computed")


def choice(cell: CellMasks, x: str) -> Choice:
    """The figures of choosing by `x`."""
    promise = x_sign(x) * as_measured(cell.x[x], x)
    goodness = cell.y_sign * cell.y
    oracle = int(np.argmin(promise))
    better = better_than(cell.y_sign * cell.raw_y, oracle)
    observed = float(goodness.max() - goodness[oracle])
    return Choice(
        oracle_mask=cell.mask[oracle] if cell.mask is not None else None,
        oracle_x=float(cell.x[x][oracle]),
        oracle_result=float(cell.raw_y[oracle]),
        best_result=float(cell.y_sign * goodness.max()),
        regret=observed,
        regret_held_out=False,
        regret_interval=_LATER,
        regret_in_noise=_LATER,
        observed_regret=observed,
        percentile=percentile(goodness, oracle),
        anomalies=int(better.sum()),
        anomaly_ratio=float(better.mean()),
        tied_with_oracle=int((goodness == goodness[oracle]).sum()) - 1,
        at=tuple(at_k(promise, goodness, k) for k in KS if k == 1 or 2 * k <= cell.n),
        tenth_n=0,
        tenth_tau=_LATER,
        tenth_interval=_LATER,
    )


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
