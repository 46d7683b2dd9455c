"""What a mask chosen by x is worth after retraining: regret, percentile, the best k. Higher `promise` is preferred by x.

Nothing depends on the order of the masks: where several are equal, figures are averages over them.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.crossfit import worth_of_pick
from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.other_images import answers_of, others
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.resample import generator, interval, resample
from trueoracle.analysis.result import Absent, AtK, Choice, Interval, RegretBasis

KS = (1, 5, 10, 20)
TENTH_LEAST = 30  # a tenth of fewer masks is no more than two


def choice(cell: CellMasks, x: str, number: int, seed: int, other_images: int | None = None) -> Choice:
    """The figures of choosing by `x`; the interval of the tenth's tau from `number` resamples."""
    promise, goodness = cell.promise(x), cell.goodness
    sign = cell.y_metric.sign
    oracles = chosen(promise)
    named = oracles[0] if cell.mask is None else min(oracles, key=lambda row: cell.mask[row] if cell.mask else row)
    better = np.array([better_than(sign * cell.raw_y, oracle).sum() for oracle in oracles])
    regret, interval_, basis = regret_of(cell, x, seed, other_images)
    deviation = _repeat_deviation(cell)
    tenth = np.flatnonzero(promise >= np.sort(promise)[::-1][-(-cell.n // 10) - 1])
    tenth_tau, tenth_interval = _within(
        cell.x[x][tenth], cell.y[tenth], cell.n, number, generator(seed, cell.group, "tenth")
    )
    return Choice(
        oracle_mask=Absent(why="the table does not number its masks") if cell.mask is None else cell.mask[named],
        oracle_x=float(cell.x[x][oracles].mean()),
        oracle_result=float(cell.raw_y[oracles].mean()),
        best_result=float(sign * goodness.max()),
        regret=regret,
        regret_basis=basis,
        regret_interval=interval_,
        regret_in_noise=deviation if isinstance(deviation, Absent) else regret / deviation,
        observed_regret=float(goodness.max() - goodness[oracles].mean()),
        percentile=float(np.mean([percentile(goodness, oracle) for oracle in oracles])),
        anomalies=round(float(better.mean())),
        anomaly_ratio=float(better.mean() / cell.n),
        tied_with_oracle=int((goodness == goodness[named]).sum()) - 1,
        at=tuple(at_k(promise, goodness, k) for k in KS if k == 1 or 2 * k <= cell.n),
        tenth_n=len(tenth),
        tenth_tau=tenth_tau,
        tenth_interval=tenth_interval,
    )


def chosen(promise: Values) -> list[int]:
    """The rows of highest promise: several where they tie."""
    found: list[int] = np.flatnonzero(promise == promise.max()).tolist()
    return found


def regret_of(
    cell: CellMasks, x: str, seed: int, other_images: int | None = None
) -> tuple[float, Interval | Absent, RegretBasis]:
    """Regret of choosing by `x` and its interval on other images, by the best way that the cell's answers or repeats allow."""
    oracles = chosen(cell.promise(x))
    answers = answers_of(cell)
    if not isinstance(answers, Absent):
        number = other_images or others(answers.images)
        rng = generator(seed, cell.group, "halves", x)
        found = worth_of_pick(answers, cell.validation, np.array(oracles), number, rng)
        basis = RegretBasis.HALVES if cell.validation is None else RegretBasis.VALIDATION
        return found.worth, found.interval, basis
    held_out = _held_out(cell, oracles)
    if held_out is None:
        observed = float(cell.goodness.max() - cell.goodness[oracles].mean())
        return observed, answers, RegretBasis.OBSERVED
    return held_out, answers, RegretBasis.REPEATS


def _held_out(cell: CellMasks, oracles: list[int]) -> float | None:
    """Each repeat in turn is held out: the others pick the best masks, the one held out measures them."""
    had_nR = np.isfinite(cell.y_nR)
    if not (had_nR.sum(axis=1) >= 2).all():
        return None
    count_n, sign, held = had_nR.sum(axis=1), cell.y_metric.sign, []
    for r in range(cell.y_nR.shape[1]):
        others_n = (np.nansum(cell.y_nR, axis=1) - np.nan_to_num(cell.y_nR[:, r])) / np.maximum(
            1, count_n - had_nR[:, r]
        )
        score_n = np.where(had_nR[:, r], sign * cell.y_metric.measured(others_n), -np.inf)
        held.append(cell.y_nR[score_n == score_n.max(), r].mean())
    return float(sign * (np.mean(held) - cell.raw_y[oracles].mean()))


def _repeat_deviation(cell: CellMasks) -> float | Absent:
    """The standard deviation of one retraining of one mask, as measured on these images."""
    freedom = int((np.isfinite(cell.y_nR).sum(axis=1) - 1).sum())
    spread = float(np.nansum((cell.y_nR - cell.raw_y[:, None]) ** 2))
    if freedom == 0:
        return Absent(why="one result a mask is known: how much repeats of one mask differ is not")
    if spread == 0:
        return Absent(why="repeats of one mask do not differ at all")
    return float(np.sqrt(spread / freedom))


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
    """The k masks of highest `promise` against `goodness`.

    Of masks that tie at the k-th place every choice is as likely (McSherry and Najork, ECIR 2008).
    """
    ascending, n = np.sort(goodness), len(goodness)
    better_n = n - np.searchsorted(ascending, goodness, side="right")
    cut = np.sort(promise)[::-1][k - 1]
    sure, tied = better_n[promise > cut], better_n[promise == cut]
    weight_n = np.where(promise > cut, 1.0, np.where(promise == cut, (k - len(sure)) / len(tied), 0.0))
    possible = better_n[weight_n > 0]
    return AtK(
        k=k,
        precision=float(weight_n @ (better_n < k) / k),
        chance_precision=float((better_n < k).mean()),
        best_rank=1 + _expected_least(sure, tied, k - len(sure)),
        anomaly_ratio=float(weight_n @ better_n / k / n),
        anomaly_ratio_low=float(possible.min() / n),
        anomaly_ratio_high=float(possible.max() / n),
    )


def _expected_least(sure: NDArray[np.int64], tied: NDArray[np.int64], taken: int) -> float:
    """The least of `sure` and of `taken` drawn from `tied`, on average over the draws."""
    cap, ways = min(sure, default=np.inf), comb(len(tied), taken)
    least = [
        min(cap, value) * (comb(len(tied) - 1 - place, taken - 1) / ways) for place, value in enumerate(np.sort(tied))
    ]
    return float(sum(least))
