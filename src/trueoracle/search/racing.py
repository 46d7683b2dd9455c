"""Racing: all listed masks on few images, those that may still be the lowest on more, until one is left.

All masks meet the same images, drawn without replacement, so what is judged are paired differences of losses over a finite
population. The images come in blocks; a mask is dropped once its mean difference to the best so far is larger than t
standard errors of it (batch means, with the correction for a finite population; Maron and Moore 1994 race with bounds
that hold for any distribution and take far more images). t is Student's, at the level (1 - confidence) / (masks x
rounds): the lowest mask is dropped only if one of so many comparisons with it errs, so with the confidence stated it is
not, as far as means over blocks are normal. What is left at the last image is known exactly.

Letters: M masks still in the race, B blocks.
"""

from collections.abc import Iterator
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.search.problem import Ask, Asking, Method, Problem

# Blocks before anything is dropped: with fewer, Student's t at such levels drops nothing. Each round doubles them.
_FIRST_BLOCKS = 32
# The images are cut in at least so many blocks, as long as a block has one: the first round costs at most a 64th.
_LEAST_BLOCKS = 2048
_LARGEST_BLOCK = 16


def propose(problem: Problem) -> Asking:
    """Rounds until one mask is left or the images are used up; then those left on all images."""
    blocks = _blocks(problem.images)
    rounds = list(_rounds(len(blocks)))
    alive = list(problem.listed)
    means_MB = np.zeros((len(alive), 0))
    level = (1 - problem.confidence) / (len(alive) * len(rounds))
    for upto in rounds:
        for block in blocks[means_MB.shape[1] : upto]:
            loss_M = yield Ask(space=problem.space, ranks=alive, images=block)
            means_MB = np.column_stack([means_MB, loss_M])
        if upto == len(blocks):
            break
        share = blocks[upto - 1].stop / problem.images
        near_M = _may_be_lowest(means_MB, share, level)
        alive, means_MB = list(compress(alive, near_M)), means_MB[near_M]
        if len(alive) == 1:
            break
    yield problem.ask(alive)
    return 1.0 if len(alive) == len(problem.listed) else problem.confidence


def _may_be_lowest(means_MB: NDArray[np.float64], share: float, level: float) -> NDArray[np.bool_]:
    """Which masks lie no further behind the best so far than chance may have it; all whose loss is no number are dropped."""
    overall_M = means_MB.mean(axis=1)
    best = int(overall_M.argmin())
    if not np.isfinite(overall_M[best]):
        return np.ones(len(overall_M), dtype=bool)
    with np.errstate(invalid="ignore"):
        behind_MB = means_MB - means_MB[best]
        count = behind_MB.shape[1]
        error_M = behind_MB.std(axis=1, ddof=1) / np.sqrt(count) * np.sqrt(1 - share)
        near_M: NDArray[np.bool_] = behind_MB.mean(axis=1) <= stats.t.ppf(1 - level, count - 1) * error_M
    near_M[best] = True
    return near_M


def _blocks(images: int) -> list[range]:
    """The images in blocks of one size, the last one smaller."""
    size = min(max(images // _LEAST_BLOCKS, 1), _LARGEST_BLOCK)
    return [range(start, min(start + size, images)) for start in range(0, images, size)]


def _rounds(blocks: int) -> Iterator[int]:
    """How many blocks are done at the end of each round."""
    upto = _FIRST_BLOCKS
    while upto < blocks:
        yield upto
        upto *= 2
    yield blocks


METHOD = Method(
    about="race: listed masks on few images, those that may be the lowest on more",
    propose=propose,
    by_itself=True,
    lists=50_000,
)
