"""What a test set of other images would show: the noise of the images, told from right or wrong image by image.

All masks are scored on the same images, so repeats cannot see the luck of the images. Four steps. (1) The images are
put into G random groups, and each figure is computed anew without each group: the jackknife's variance, which takes in that
all masks meet the same images. (2) Two halves of the images say how far an order of masks on one half comes back on the
other: their reliability, by Spearman and Brown's formula for any number of images. (3) As noise pulls tau towards zero,
tau on M other images is tau on these changed by the two reliabilities, in Greiner's r = sin(pi tau / 2); the interval inverts the
test of each value (Fieller, J. R. Stat. Soc. B 16, 1954), so that an unsure factor makes it wide. (4) What retraining
adds (its variance over repeats less what the images explain of it: a two-way sum, Cameron, Gelbach and Miller, J. Bus. Econ.
Stat. 29, 2011) and the luck of the M images are added to the variance.

The pigeonhole bootstrap (Owen, Ann. Appl. Stat. 1, 2007) is not drawn: it counts the noise of one image in one repeat
three times, and a rank correlation of resampled images is pulled to zero by their noise once more.

Letters: n masks, R repeats, I images, G groups, K predictors, V = G + 1 sets of images (all; all but one group).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.analysis import compiled
from trueoracle.analysis.masks import Answers, CellMasks, Values
from trueoracle.analysis.planning import tau_deviation
from trueoracle.analysis.resample import LEAST
from trueoracle.analysis.result import Absent, Interval
from trueoracle.analysis.spread import retraining_share

OTHER_IMAGES = 5_000
LEAST_IMAGES = 60
SCORED = "final_test_accuracy"  # the result that answers are the single images of
_GROUPS, _SPLITS = 20, 12
SURE = 0.05
_ROUNDING = 1e-5  # accuracies are kept in single precision in places
_GRID = np.linspace(-1.0, 1.0, 801)
T = float(stats.t.ppf(0.975, _GROUPS - 1))

Right = NDArray[np.bool_]


def others(images: int) -> int:
    """How many other images figures speak of: as many as these, or 5,000 where these are fewer."""
    return max(images, OTHER_IMAGES)


def greiner(tau: Values | float) -> Values:
    """The correlation of normal variables that have this tau (Greiner 1909)."""
    return np.asarray(np.sin(np.pi / 2 * np.asarray(tau)))


def back(r: Values | float) -> Values:
    """The tau of normal variables of this correlation."""
    return np.asarray(2 / np.pi * np.arcsin(np.clip(r, -1.0, 1.0)))


def spearman_brown(reliability: Values | float, times: float) -> Values:
    """The reliability of a mean of `times` as many parts."""
    q = np.asarray(reliability)
    return np.asarray(times * q / (1 + (times - 1) * q))


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """Kendall's tau of K predictors with the results, and reliabilities, for each of V sets of images.

    `half_V` is tau between results on two halves of the images, all repeats taken together; `retraining_V` the share of
    the masks' differences in one repeat that another retraining shows again (1 where there is one repeat).
    """

    tau_VK: Values
    half_V: Values
    retraining_V: Values
    masks: int
    images: int
    repeats: int

    @classmethod
    def of(cls, xs: Sequence[Values], right_nRI: Right, known_nR: Right, rng: np.random.Generator) -> "Jackknife":
        """From K predictors, each of shape (n,), and the answers of their masks; `known_nR` says which trials finished."""
        _, R, images = right_nRI.shape
        groups = np.array_split(rng.permutation(images), _GROUPS)
        sums_GnR = np.stack([right_nRI[:, :, group].sum(axis=2) for group in groups]) * known_nR.astype(float)
        first_SG = rng.permuted(np.tile(np.arange(_GROUPS) < _GROUPS // 2, (_SPLITS, 1)), axis=1)
        xs_Kn = np.array(xs, float)
        sets = [np.ones(_GROUPS), *(1.0 - np.eye(_GROUPS))]
        found = [_figures(xs_Kn, sums_GnR, known_nR, keep_G, first_SG) for keep_G in sets]
        tau, half, retraining = zip(*found, strict=True)
        return cls(
            masks=len(right_nRI),
            tau_VK=np.array(tau),
            half_V=np.array(half),
            retraining_V=np.array(retraining),
            images=images,
            repeats=R,
        )

    @staticmethod
    def variance(figure_V: Values) -> Values:
        """The jackknife's variance of a figure, from its values on each set of images: (V, ...) to (...)."""
        left_out = figure_V[1:]
        return np.asarray((_GROUPS - 1) / _GROUPS * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


def _figures(
    xs_Kn: Values, sums_GnR: Values, known_nR: Right, keep_G: Values, first_SG: NDArray[np.bool_]
) -> tuple[Values, float, float]:
    """The taus, the agreement of halves and the share of retraining of one set of images; halves are of groups."""
    count_n, complete = known_nR.sum(axis=1), np.flatnonzero(known_nR.all(axis=1))
    whole_n = _rounded(np.tensordot(keep_G, sums_GnR, 1).sum(axis=1) / count_n)
    tau_K = _ordered(compiled.paired(xs_Kn, np.tile(whole_n, (len(xs_Kn), 1))))
    a_SnR, b_SnR = (np.tensordot(half_SG * keep_G, sums_GnR, 1) for half_SG in (first_SG, ~first_SG))
    together = compiled.paired(_rounded(a_SnR.sum(axis=2) / count_n), _rounded(b_SnR.sum(axis=2) / count_n))
    half, R = float(_ordered(together).mean()), known_nR.shape[1]
    if R == 1 or len(complete) < LEAST:
        return tau_K, half, 1.0
    alone, across = (_across(a_SnR[:, complete], b_SnR[:, complete], step) for step in (0, 1))
    return tau_K, half, float(np.clip(across / alone, 0.0, 1.0)) if alone > 0 else 1.0


def _across(a_SnR: Values, b_SnR: Values, step: int) -> float:
    """The correlation of each repeat on one half with the repeat `step` further on the other."""
    shifted_SnR = np.roll(b_SnR, -step, axis=2)
    pairs = [_ordered(compiled.paired(_one(a_SnR, r), _one(shifted_SnR, r))) for r in range(a_SnR.shape[2])]
    return float(greiner(float(np.mean(pairs))))


def _one(sums_SnR: Values, r: int) -> Values:
    return np.ascontiguousarray(sums_SnR[:, :, r])


def _rounded(values: Values) -> Values:
    """Sums over repeats that are equal but for rounding tie."""
    return np.ascontiguousarray(np.round(values, 6))


def _ordered(taus: Values) -> Values:
    """Where either side is constant, such images show no order: 0."""
    return np.nan_to_num(taus)


def answers_of(cell: CellMasks) -> Answers | Absent:
    """The answers that the cell's result is the mean of, where there are enough."""
    if cell.y_name != SCORED:
        return Absent(
            why=f"right or wrong image by image says nothing of `{cell.y_name}`, so the noise of the images is unknown"
        )
    if cell.test is None:
        return Absent(why="it is not known which images each network had right, so the noise of the images is unknown")
    if cell.test.images < LEAST_IMAGES:
        return Absent(why=f"{cell.test.images} images are too few to tell their noise: it takes {LEAST_IMAGES}")
    means_n = cell.test.right_nRI.sum(axis=2) @ np.ones(cell.test.right_nRI.shape[1])
    means_n /= cell.test.known_nR.sum(axis=1) * cell.test.images
    if np.abs(means_n - cell.raw_y).max() > _ROUNDING:
        return Absent(
            why=f"`{cell.y_name}` is not the mean of the answers that were kept: those are of one epoch alone"
        )
    return cell.test


@dataclass(frozen=True, kw_only=True)
class OtherImages:
    """`number` other images, as seen from these: the jackknife of all predictors, and what retraining adds to tau's variance.

    `sign_K` times tau is a predictor's agreement; `retraining_K` are variances of tau.
    """

    found: Jackknife
    number: int
    sign_K: Values
    retraining_K: Values

    def tau(self, k: int) -> tuple[float, Interval]:
        """What Kendall's tau of predictor k will be: the estimate and its 95% interval."""
        estimate = float(back(greiner(self.found.tau_VK[0, k]) * self._factors[0]))
        gap, deviation = self._gaps(k, _GRID)
        inside = _GRID[np.abs(gap) <= T * deviation]
        low, high = back(inside[[0, -1]]) if len(inside) else (estimate, estimate)
        return estimate, Interval(low=float(min(low, estimate)), high=float(max(high, estimate)))

    @property
    def reliability(self) -> float:
        """That of results on these images, all repeats taken together."""
        return float(spearman_brown(_positive(self.found.half_V[:1]), 2)[0])

    def deviation(self, k: int) -> float:
        """The standard deviation of tau as measured on these images, from images and retraining."""
        return float(np.sqrt(self.found.variance(self.found.tau_VK[:, k]) + self.retraining_K[k]))

    def zero_p(self, k: int) -> float:
        """Two-sided p of tau = 0."""
        gap, deviation = self._gaps(k, np.zeros(1))
        return float(2 * _tail(np.abs(gap), deviation)[0])

    def equivalence_p(self, k: int, margin: float) -> float:
        """The larger p of two one-sided tests of |tau| >= margin."""
        gap, deviation = self._gaps(k, greiner(np.array([margin, -margin])))
        return float(_tail(gap * np.array([-1.0, 1.0]), deviation).max())

    def over(self, k: int, other: int) -> Interval:
        """The 95% interval of predictor k's agreement less the other's."""
        agreement_VK = self.sign_K * back(greiner(self.found.tau_VK) * self._factors[:, None])
        difference_V = agreement_VK[:, k] - agreement_VK[:, other]
        luck = 1 + self.found.images / self.number
        half = T * float(np.sqrt(luck * self.found.variance(difference_V) + self.retraining_K[[k, other]].sum()))
        middle = float(difference_V[0])
        return Interval(low=max(-2.0, middle - half), high=min(2.0, middle + half))

    def ceiling(self) -> tuple[float, Interval]:
        """The tau with these results of one who knows each mask's accuracy on the other images, whatever the retraining."""
        found = self.found
        spread = T * np.sqrt(found.variance(found.half_V) * (1 + found.images / self.number))
        ends = np.clip(found.half_V[0] + np.array([0, -spread, spread]), -1.0, 1.0)
        middle, low, high = self._reached(ends).tolist()
        # How the noise of these results falls on so many masks; they share units, so they count for half as many.
        fall = T * np.sqrt(2) * tau_deviation(min(middle, 0.999), self.found.masks)
        low, high = middle - np.hypot(middle - low, fall), middle + np.hypot(high - middle, fall)
        return middle, Interval(low=max(0.0, float(low)), high=min(1.0, float(high)))

    def relative(self, k: int) -> tuple[float, Interval] | Absent:
        """Agreement over the ceiling, where the ceiling is surely above nothing."""
        middle, interval = self.ceiling()
        if interval.low <= SURE:
            return Absent(why=f"what one who knows other images would reach is not surely above {SURE}")
        agreement_V = self.sign_K[k] * self.found.tau_VK[:, k]
        grid = 2 * _GRID
        gap = agreement_V[:, None] - grid * self._reached(self.found.half_V)[:, None]
        deviation = np.sqrt(self.found.variance(gap) + self.retraining_K[k])
        inside, estimate = grid[np.abs(gap[0]) <= T * deviation], float(agreement_V[0] / middle)
        low, high = inside[[0, -1]] if len(inside) else (estimate, estimate)
        return estimate, Interval(low=float(min(low, estimate)), high=float(max(high, estimate)))

    @property
    def _factors(self) -> Values:
        """What r is multiplied by on the other images: at most the root of their number over these'."""
        q, m = _positive(self.found.half_V), 2 * self.number / self.found.images
        return np.asarray(np.sqrt((m / 2) * (1 + q) / (1 + (m - 1) * q)))

    def _gaps(self, k: int, r: Values) -> tuple[Values, Values]:
        """R as measured less what it would be if it were `r` on the other images, and the standard deviation of that."""
        r_V = greiner(self.found.tau_VK[:, k])
        gap_V = r_V[:, None] - r / self._factors[:, None]
        slope = (np.pi / 2) ** 2 * (1 - r_V[0] ** 2)  # of Greiner's relation, squared
        luck = self.found.variance(r_V) * self.found.images / self.number
        return gap_V[0], np.sqrt(self.found.variance(gap_V) + luck + slope * self.retraining_K[k])

    def _reached(self, half: Values) -> Values:
        q, times = _positive(half), 2 * self.number / self.found.images
        share = spearman_brown(self.found.retraining_V[0], self.found.repeats)
        return back(np.sqrt(spearman_brown(q, 2) * spearman_brown(q, times) * share))


def _positive(half: Values) -> Values:
    return np.asarray(np.maximum(greiner(half), 0.0))


def _tail(gap: Values, deviation: Values) -> Values:
    """One-sided p of a gap, by Student's t; a gap without any deviation is sure."""
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(deviation > 0, gap / deviation, np.where(gap > 0, np.inf, -np.inf))
    return np.asarray(stats.t.sf(score, _GROUPS - 1))


def other_images(
    cell: CellMasks, answers: Answers, again: Mapping[str, Values | Absent], number: int, rng: np.random.Generator
) -> OtherImages:
    """What `number` other images would show of the cell's predictors; `again` has taus of other retrainings of each.

    Of the variance of repeats, what their differences from image to image explain is that of the images already.
    """
    measured = [cell.metric_of(x).measured(values) for x, values in cell.x.items()]
    return OtherImages(
        found=Jackknife.of(measured, answers.right_nRI, answers.known_nR, rng),
        number=number,
        sign_K=np.array([cell.metric_of(x).sign * cell.y_metric.sign for x in cell.x]),
        retraining_K=np.array(
            [
                0.0 if isinstance(taus, Absent) else retraining_share(answers) * float(taus.var())
                for taus in (again[x] for x in cell.x)
            ]
        ),
    )
