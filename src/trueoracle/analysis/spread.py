"""Where the spread of final accuracy comes from: variance components of right or wrong, mask by repeat by image.

An answer is the mask's worth, plus the luck of a retraining, plus what this mask does with this image, plus what this retraining of it
does with it. Images that are hard for all masks alike do not count. Moments of a two-way table, unbiased (Searle,
Casella and McCulloch, Variance Components, 1992, chapter 4).
"""

import numpy as np

from trueoracle.analysis.masks import Answers, Values
from trueoracle.analysis.result import Spread


def spread(test: Answers) -> Spread:
    """Variances of the accuracy of one trial of one mask, by what makes it vary."""
    count_n = test.known_nR.sum(axis=1)
    I = test.images  # noqa: E741
    per_image_nI = mean_of_repeats(test)
    centred_nI = per_image_nI - per_image_nI.mean(axis=0)
    n = len(centred_nI)
    observed = float(centred_nI.mean(axis=1).var(ddof=1))
    of_means = float(centred_nI.var(axis=1, ddof=1).sum()) / (n - 1) / I
    retraining = retraining_variance(test)
    of_repeats = _repeat_by_image(test) / I
    R = float(count_n.mean())
    return Spread(
        masks=max(0.0, observed - of_means - retraining / R),
        retraining=retraining,
        images=max(0.0, of_means - of_repeats / R),
        retraining_by_images=of_repeats,
    )


def mean_of_repeats(test: Answers) -> Values:
    """How often each mask is right on each image: shape (n, I)."""
    known_nR = test.known_nR
    total = np.zeros((len(known_nR), test.images), np.float32)
    for r in range(known_nR.shape[1]):
        total += test.right_nRI[:, r] & known_nR[:, r, None]
    return np.asarray(total / known_nR.sum(axis=1, keepdims=True))


def retraining_variance(test: Answers) -> float:
    """The variance of one retraining of a mask over all images of the kind, 0 where there is one repeat a mask."""
    return max(0.0, _of_repeats(test) - _repeat_by_image(test) / test.images)


def retraining_share(test: Answers) -> float:
    """The share of the variance of repeats on these images that other images would show as well."""
    total = _of_repeats(test)
    return retraining_variance(test) / total if total > 0 else 0.0


def mask_error(test: Answers, oracle: int) -> float:
    """The standard error of a mask's accuracy less the oracle mask's, on average over masks."""
    per_image_nI = mean_of_repeats(test)
    of_images = (per_image_nI - per_image_nI[oracle]).var(axis=1, ddof=1)
    others = np.arange(len(of_images)) != oracle
    R = float(test.known_nR.sum(axis=1).mean())
    return float(np.sqrt(of_images[others].mean() / test.images + 2 * retraining_variance(test) / R))


def _of_repeats(test: Answers) -> float:
    """The variance of one repeat of a mask as measured on these images."""
    pairs = _pairs(test)
    return float(np.mean([(difference.mean(axis=1) ** 2).mean() for difference in pairs])) / 2 if pairs else 0.0


def _repeat_by_image(test: Answers) -> float:
    pairs = _pairs(test)
    return float(np.mean([difference.var(axis=1, ddof=1).mean() for difference in pairs])) / 2 if pairs else 0.0


def _pairs(test: Answers) -> list[Values]:
    """Each repeat less the next, of masks that have both: shapes (masks, I)."""
    known_nR = test.known_nR
    found = []
    for r in range(known_nR.shape[1] - 1):
        both = known_nR[:, r] & known_nR[:, r + 1]
        if both.any():
            found.append(test.right_nRI[both, r].astype(np.float32) - test.right_nRI[both, r + 1])
    return found
