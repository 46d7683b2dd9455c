"""Racing: all listed masks on few images, those that may still be the lowest on more, until one is left.

All masks meet the same images, drawn without replacement, so what is judged are paired differences of losses over a finite
population. The images come in blocks. A few masks, drawn at random, run on all of them first: what they lose on the
images seen so far and on all is known, and how a mask's losses follow theirs is found by least squares, so that most of
what chance in the images would do is known not to be (the regression estimator of sampling from a finite population;
Cochran, Sampling Techniques, 1977, chapter 7). A mask is dropped once its difference to the best so far, estimated so, is
larger than t standard errors of it (batch means, with the correction for a finite population; Maron and Moore 1994 race
with bounds that hold for any distribution and take far more images). t is Student's, at the level
(1 - confidence) / (masks x rounds): the lowest mask is dropped only if one of so many comparisons with it errs, so with
the confidence stated it is not, as far as the residuals of blocks are normal. What is left at the last image is known exactly.

Letters: M masks still in the race, B blocks, R references and one.
"""

from collections.abc import Generator, Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.search.problem import Ask, Asking, Losses, Method, Problem

Values = NDArray[np.float64]

# Blocks before anything is dropped: with fewer, Student's t at such levels drops nothing.
_FIRST_BLOCKS, _GROWTH = 32, 1.5
# Masks that run on all images; fewer where they would be more than a share of the masks listed.
_REFERENCES, _LARGEST_SHARE = 24, 0.01
_BLOCKS_A_REFERENCE = 4  # at least, so that enough residuals are left
# The images are cut in at least so many blocks, as long as a block has one: the first round costs at most a 64th.
_LEAST_BLOCKS = 2048
_LARGEST_BLOCK = 16


def propose(problem: Problem) -> Asking:
    """Rounds until one mask is left or the images are used up; then those left on all images."""
    blocks = _blocks(problem.images)
    rounds = list(_rounds(len(blocks)))
    alive = list(problem.listed)
    references = problem.random().sample(alive, min(_REFERENCES, int(_LARGEST_SHARE * len(alive))))
    known_BR = np.ones((len(blocks), 1))
    if references and len(rounds) > 1:
        losses_RB = yield from _judged(problem, references, blocks)
        known_BR = _centred(losses_RB.T, np.array([len(block) for block in blocks]))
    means_MB = np.zeros((len(alive), 0))
    level = (1 - problem.confidence) / (len(alive) * len(rounds))
    for upto in rounds:
        more_MB = yield from _judged(problem, alive, blocks[means_MB.shape[1] : upto])
        means_MB = np.hstack([means_MB, more_MB])
        if upto == len(blocks):
            break
        share = blocks[upto - 1].stop / problem.images
        near_M = _may_be_lowest(means_MB, known_BR[:upto, : 1 + upto // _BLOCKS_A_REFERENCE], share, level)
        alive, means_MB = list(compress(alive, near_M)), means_MB[near_M]
        if len(alive) == 1:
            break
    yield problem.ask(alive)
    return 1.0 if len(alive) == len(problem.listed) else problem.confidence


def _judged(problem: Problem, ranks: Sequence[int], blocks: Sequence[range]) -> Generator[Ask, Losses, Values]:
    """The losses of these masks on these blocks, a column a block."""
    losses = np.zeros((len(ranks), len(blocks)))
    for place, block in enumerate(blocks):
        losses[:, place] = yield Ask(space=problem.space, ranks=ranks, images=block)
    return losses


def _centred(losses_BR: Values, sizes_B: NDArray[np.int64]) -> Values:
    """A column of ones, and the references' losses less their means over all images; those that are no number are left out."""
    finite_BR = losses_BR[:, np.isfinite(losses_BR).all(axis=0)]
    return np.column_stack([np.ones(len(sizes_B)), finite_BR - np.average(finite_BR, axis=0, weights=sizes_B)])


def _may_be_lowest(means_MB: Values, known_BR: Values, share: float, level: float) -> NDArray[np.bool_]:
    """Which masks lie no further behind the best so far than chance may have it; all whose loss is no number are dropped."""
    finite_M: NDArray[np.bool_] = np.asarray(np.isfinite(means_MB).all(axis=1))
    if not finite_M.any():
        return np.ones(len(means_MB), dtype=bool)
    losses_BM = means_MB[finite_M].T
    # The first coefficient is a mask's loss where the references lose what they lose on all images.
    inverse_RB = np.linalg.pinv(known_BR)
    fit_RM = inverse_RB @ losses_BM
    best = int(fit_RM[0].argmin())
    residual_BM = losses_BM - known_BR @ fit_RM
    residual_BM -= residual_BM[:, [best]]
    freedom = len(known_BR) - int(np.linalg.matrix_rank(known_BR))
    if freedom < 1:
        return finite_M
    error_M = np.sqrt((residual_BM**2).sum(axis=0) / freedom * (inverse_RB[0] ** 2).sum() * (1 - share))
    near_M = finite_M.copy()
    near_M[finite_M] = fit_RM[0] - fit_RM[0, best] <= stats.t.ppf(1 - level, freedom) * error_M
    near_M[np.flatnonzero(finite_M)[best]] = True
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
        upto = int(_GROWTH * upto)
    yield blocks


METHOD = Method(
    about="race: listed masks on few images, those that may be the lowest on more",
    propose=propose,
    by_itself=True,
    lists=50_000,
)
