"""How good masks are after a rung: judged on validation images, with what is known beside them.

A few hundred validation images tell masks of nearly equal accuracy apart badly: the best of many on them is the one
that they flatter most. How much of the spread is the images' is known, for all masks answer the same ones: what two
different images say alike of the masks is the masks' own. By that measure the judgement of the images is shrunk, and
what training made of the masks on the train images, of which there are more, is given the weight that it is measured to
have.

Letters: M masks, I images, F signs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

DRAWS = 4000
_LEAST_LOSS = 1e-9  # nats: lower ones are alike
# What is believed of the correlations before any mask is seen, as if it were seen on so many of them: of validation
# accuracy, train accuracy and train loss with accuracy on other images, and with each other. How far validation images are
# to be trusted many images tell; what a sign is worth, only the masks, which are tens: there the belief is that of many.
_BELIEVED_F = np.array([10, 100, 100])
_WITH_WORTH = np.array([0.6, 0.6, 0.6])
_WITH_EACH_OTHER = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]])


@dataclass(frozen=True, kw_only=True)
class Worth:
    """Expected accuracy of masks on other images, with the standard deviation of what is not known of each."""

    mean_M: Numbers
    deviation_M: Numbers

    def draws(self, seed: int) -> Numbers:
        """What may be true of the masks, (DRAWS, M)."""
        noise = np.random.default_rng(seed).standard_normal((DRAWS, len(self.mean_M)))
        return np.asarray(self.mean_M + noise * self.deviation_M)


def worth(right_MI: Numbers, signs_MF: Numbers, retraining_M: Numbers) -> Worth:
    """The worth of masks from their answers to the validation images: shares of repeats that answer each right.

    `signs_MF` are train accuracy and the logarithm of the train loss with its sign turned: higher is better. `retraining_M` is the
    variance of a mask's accuracy over repeats, over the number of its repeats; it stays unknown.
    """
    masks, images = right_MI.shape
    accuracy_M = right_MI.mean(1)
    if masks < 2:
        unsure_M = accuracy_M * (1 - accuracy_M) / images + retraining_M
        return Worth(mean_M=accuracy_M, deviation_M=np.sqrt(unsure_M))
    spread, own = _variances(right_MI)
    if spread == 0:  # all masks answer alike: only the signs could tell them apart, and nobody knows how
        return Worth(mean_M=accuracy_M, deviation_M=np.sqrt(retraining_M + 0.25 / images))
    observed_MF = np.column_stack([accuracy_M, signs_MF])
    scaled_MF, varies_F = _standardised(observed_MF)
    with_worth_F = scaled_MF.T @ (accuracy_M - accuracy_M.mean()) / masks / own**0.5
    seen_F = masks / (masks + _BELIEVED_F)
    with_worth_F = seen_F * np.clip(with_worth_F, -1, 1) + (1 - seen_F) * _WITH_WORTH
    with_worth_F[0] = (own / spread) ** 0.5
    seen_FF = np.minimum.outer(seen_F, seen_F)
    with_each_other_FF = seen_FF * (scaled_MF.T @ scaled_MF / masks) + (1 - seen_FF) * _WITH_EACH_OTHER
    weights_F = np.zeros(len(varies_F))
    weights_F[varies_F] = np.linalg.solve(
        with_each_other_FF[np.ix_(varies_F, varies_F)] + 0.05 * np.eye(int(varies_F.sum())), with_worth_F[varies_F]
    )
    told = float(np.clip(weights_F @ with_worth_F, 0.0, 0.98))
    return Worth(
        mean_M=accuracy_M.mean() + own**0.5 * (scaled_MF @ weights_F),
        deviation_M=np.sqrt(own * (1 - told) + retraining_M),
    )


def signs(train_accuracy_M: ArrayLike, train_loss_M: ArrayLike) -> Numbers:
    """What `worth` takes beside the answers, from what training made of the masks on the train images."""
    loss_M = np.maximum(np.asarray(train_loss_M, dtype=np.float64), _LEAST_LOSS)
    return np.column_stack([np.asarray(train_accuracy_M, dtype=np.float64), -np.log(loss_M)])


def _variances(right_MI: Numbers) -> tuple[float, float]:
    """The variance over masks of their accuracy on these images, and the part of it that other images would show too.

    What an image alone has to say of the masks is their covariance with itself; what is left are different images. Of few
    masks that is measured badly, so it is told with what is believed.
    """
    masks = len(right_MI)
    images = right_MI.shape[1]
    centred_MI = right_MI - right_MI.mean(0)
    total = float((centred_MI.mean(1) ** 2).mean())
    of_one = float((centred_MI**2).mean())  # mean over images of the variance over masks
    own = (images * total - of_one) / max(images - 1, 1)
    seen = masks / (masks + _BELIEVED_F[0])
    return total, seen * min(max(own, 0.0), total) + (1 - seen) * float(_WITH_WORTH[0] ** 2) * total


def _standardised(values_MF: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    deviation_F = values_MF.std(0)
    varies_F = deviation_F > 1e-12 * np.maximum(1.0, np.abs(values_MF).max(0))
    return np.where(varies_F, (values_MF - values_MF.mean(0)) / np.where(varies_F, deviation_F, 1.0), 0.0), varies_F


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How a rung predicts the next, measured on the masks that are on both: worth there = at + slope x worth here.

    `deviation` is that of what is left over; `correlation` is None where too few masks tell.
    """

    at: float
    slope: float
    deviation: float
    correlation: float | None

    def of(self, below: Worth) -> Worth:
        """What masks may be worth on the next rung."""
        unsure = np.hypot(self.slope * below.deviation_M, self.deviation)
        return Worth(mean_M=self.at + self.slope * below.mean_M, deviation_M=unsure)


_ENOUGH = 4  # masks on both rungs, from which on a line is fitted


def forecast(below: Worth, above: Worth) -> Forecast:
    """From the masks on both rungs, in the same order; of few of them, masks are taken to keep their distances."""
    x, y = below.mean_M, above.mean_M
    at, slope = float(y.mean() - x.mean()), 1.0
    correlation = None
    if len(x) >= _ENOUGH and x.std() > 0 and y.std() > 0:
        correlation = float(np.corrcoef(x, y)[0, 1])
        slope = max(0.0, correlation * float(y.std() / x.std()))
        at = float(y.mean() - slope * x.mean())
    left_over = y - at - slope * x
    free = max(1, len(x) - (2 if correlation is not None else 1))
    deviation = float(np.sqrt((left_over**2).sum() / free)) or float(below.deviation_M.mean())
    return Forecast(at=at, slope=slope, deviation=deviation, correlation=correlation)
