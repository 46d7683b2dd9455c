"""What a sample stratified over the loss says of the masks it was drawn from: each mask counts as many as it stands for.

Letters: n masks, B resamples.
"""

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.resample import LEAST, generator, interval
from trueoracle.analysis.result import Absent, Stratified

_RESAMPLES = 1_999


def stratified(cell: CellMasks, x: str, seed: int) -> Stratified | Absent:
    """Kendall's tau-b of x and the result, and the anomaly ratio, weighted.

    Intervals: masks drawn again with replacement within each stratum, whose share is known. Masks of one weight are taken
    for a stratum. Masks that are all of a low stratum are drawn again as well: they stand for the rest of the space.
    """
    masks = cell.weighted
    if isinstance(masks, Absent):
        return masks
    if len(masks.y) < LEAST:
        return Absent(why=f"{len(masks.y)} masks cannot bear a bootstrap: it takes {LEAST}")
    x_n, y_n = cell.metric_of(x).measured(masks.x[x]), cell.y_metric.measured(masks.y)
    if not np.isfinite(x_n).all() or not np.isfinite(y_n).all() or np.ptp(x_n) == 0 or np.ptp(y_n) == 0:
        return Absent(why=f"`{x}` or the result is missing or the same for all masks of the stratified sample")
    drawn_Bn = _again(masks.weight, generator(seed, cell.group, "strata"))
    taus = weighted_tau(x_n, y_n, np.vstack([masks.weight, drawn_Bn]))
    known = taus[1:][np.isfinite(taus[1:])]
    if len(known) < _RESAMPLES / 2:
        return Absent(why="nearly all values are equal: most resamples are constant")
    good_n = cell.y_metric.sign * y_n
    above_n = good_n > good_n[int(np.argmax(cell.metric_of(x).sign * x_n))]
    ratios = (drawn_Bn * above_n).sum(axis=1) / drawn_Bn.sum(axis=1)
    return Stratified(
        n=len(y_n),
        stands_for=round(float(masks.weight.sum())),
        kendall_tau=float(taus[0]),
        kendall_interval=interval(known),
        anomaly_ratio=float((masks.weight * above_n).sum() / masks.weight.sum()),
        anomaly_interval=interval(ratios),
    )


def weighted_tau(x_n: Values, y_n: Values, weight_Bn: Values) -> Values:
    """Kendall's tau-b where a pair of masks counts the product of their weights: shape (B,), not a number where all tie."""
    sign_x, sign_y = (np.sign(v[:, None] - v[None, :]) for v in (x_n, y_n))

    def pairs(of_nn: NDArray[np.float64]) -> Values:
        return np.asarray(((weight_Bn @ of_nn) * weight_Bn).sum(axis=1))

    with np.errstate(invalid="ignore", divide="ignore"):
        tau = pairs(sign_x * sign_y) / np.sqrt(pairs(np.abs(sign_x)) * pairs(np.abs(sign_y)))
    return np.asarray(np.clip(tau, -1.0, 1.0))


def _again(weight_n: Values, random: np.random.Generator) -> Values:
    """Weights of resamples: each mask's times how often it was drawn within its stratum. Shape (B, n)."""
    again = np.zeros((_RESAMPLES, len(weight_n)))
    for weight in np.unique(weight_n):
        of_stratum = np.flatnonzero(weight_n == weight)
        count = len(of_stratum)
        again[:, of_stratum] = weight * random.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    return again
