"""What a mask picked by its results is worth on images that did not pick it.

The best observed mask owes its place to luck: of the images, which all repeats share, and of retraining. So masks are
picked on one set of images and measured on another, by repeats that did not pick: on validation and then on test
images where there are both, else on halves of the test images, each half picking for the other, over several random halvings.
Equal masks are all picked, and their worth is averaged. Letters: n masks, R repeats, I images, S halvings.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis.masks import Answers, Values
from trueoracle.analysis.result import Interval
from trueoracle.analysis.spread import retraining_variance

_HALVINGS = 10
_Z = 1.959964


@dataclass(frozen=True, kw_only=True)
class Worth:
    """The accuracy of the mask picked less that of the oracle mask, on images that did not pick; with a 95% interval.

    The interval is for another `other_images` images of the same kind and another retraining.
    """

    worth: float
    interval: Interval
    other_images: int


def worth_of_pick(
    test: Answers, validation: Answers | None, oracles: NDArray[np.int64], other_images: int, rng: np.random.Generator
) -> Worth:
    """Picked among all masks of `test`, against the mean of the `oracles` (rows)."""
    per_image = (
        [_on_test(test, validation, oracles)]
        if validation is not None
        else [_crossed(test, picks, oracles) for picks in _halvings(test.images, rng)]
    )
    I = test.images  # noqa: E741 - the letter of the legend
    R = test.right_nRI.shape[1]
    luck = max(float(np.mean([gain.var(ddof=1) for gain in per_image])), 1 / I if np.any(per_image) else 0.0) / I
    luck *= 1 + I / other_images
    half = _Z * float(np.sqrt(luck + 2 * retraining_variance(test) / R * bool(np.any(per_image))))
    worth = float(np.mean(per_image))
    return Worth(worth=worth, interval=Interval(low=worth - half, high=worth + half), other_images=other_images)


def _halvings(images: int, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Which images are in the first half; each image is in it with every other one equally often."""
    for _ in range(_HALVINGS):
        first = np.zeros(images, np.bool_)
        first[rng.permutation(images)[: images // 2]] = True
        yield first


def _crossed(test: Answers, first_I: NDArray[np.bool_], oracles: NDArray[np.int64]) -> Values:
    """Each image's gain by the mask that the other half picked: shape (I,)."""
    gain_I = np.empty(test.images)
    for choosing in (first_I, ~first_I):
        gain_I[~choosing] = _gain(test, test.sums(choosing), ~choosing, oracles)
    return gain_I


def _on_test(test: Answers, validation: Answers, oracles: NDArray[np.int64]) -> Values:
    every = np.ones(validation.images, np.bool_)
    return _gain(test, validation.sums(every), np.ones(test.images, np.bool_), oracles)


def _gain(test: Answers, chosen_nR: Values, measuring_I: NDArray[np.bool_], oracles: NDArray[np.int64]) -> Values:
    """By each repeat in turn what the others picked; a single repeat measures what it picked itself, on other images."""
    known_nR, R = test.known_nR, test.known_nR.shape[1]
    parts = []
    for r in range(R):
        by_nR = known_nR & (np.arange(R) != r) if R > 1 else known_nR
        count_n = by_nR.sum(axis=1)
        mean_n = np.where(
            known_nR[:, r] & (count_n > 0), (chosen_nR * by_nR).sum(axis=1) / np.maximum(count_n, 1), -1.0
        )
        picked = np.flatnonzero(mean_n.round(9) == mean_n.max().round(9))
        against = oracles[known_nR[oracles, r]]
        if mean_n.max() < 0 or not len(against):
            continue
        ours, theirs = (test.right_nRI[rows, r][:, measuring_I].mean(axis=0) for rows in (picked, against))
        parts.append(ours - theirs)
    return np.asarray(np.mean(parts, axis=0)) if parts else np.zeros(int(measuring_I.sum()))
