"""What a cell says, in sentences to quote. Rules: docs/verdicts.md."""

from enum import Enum


class Answer(Enum):
    """What kind of yes or no the tests give."""

    RELATION = "there is a relation: tau differs from zero"
    NONE = "there is practically none: |tau| lies below the margin"
    UNKNOWN = "cannot tell: neither a relation nor its absence is shown"


class Verdict(Enum):
    """By Kendall's tau between predictor and result, signed so that positive means the predictor is right."""

    PREDICTS = (
        "predicts: of two masks, the one that looks better before retraining ends better at least three times in four"
    )
    WEAKLY = "predicts weakly: masks that look better before retraining end better somewhat more often than not"
    OPPOSITE = "misleads: masks that look better before retraining end worse more often than not"
    NOTHING = "says nothing: whatever relation there is lies below the margin that would matter"
    CANNOT_TELL = "cannot tell: no relation was found, which does not show that there is none"
    NOISE = "cannot tell: the noise of images or of retraining is so large that even a perfect predictor would hardly correlate"


class Caveat(Enum):
    """What a reader must know beside the verdict."""

    COLLAPSED = "every pruned network is worse than guessing before retraining: the question was asked among collapsed networks only"
    MOSTLY_COLLAPSED = "most pruned networks are worse than guessing before retraining"
    NAIVE = (
        "whether unrelated units would show as much could not be tested: the p takes masks for independent and is too small "
        "for any claim beyond them"
    )
    THESE_IMAGES = "the noise of the test images is unknown: every figure speaks of these images only"
    MODELLED = (
        "the masks were drawn and what relabelled ones lose was not to be had: whether unrelated units would show as much rests on a "
        "model of single units, whose p is too small where pairs of units interact"
    )
    ONE_REPEAT = (
        "one result a mask is known: how high a correlation could be at all, given the noise of retraining, is unknown"
    )
    LEFT_OUT = "some trials were left out: they diverged or failed"
    SEARCHED = (
        "masks that were chosen, by their loss, from its tail or by a criterion, were left out: they are no random sample of "
        "the space (the trial table has them)"
    )


STRONG = 0.5


def judge(answer: Answer, agreement: float, drowned: bool) -> Verdict:
    """The verdict on a cell, from what the tests say, the agreement (tau, positive where x is right) and whether noise drowns any order."""
    if answer is Answer.NONE:
        return Verdict.NOISE if drowned else Verdict.NOTHING
    if answer is Answer.UNKNOWN:
        return Verdict.NOISE if drowned else Verdict.CANNOT_TELL
    if agreement < 0:
        return Verdict.OPPOSITE
    return Verdict.PREDICTS if agreement >= STRONG else Verdict.WEAKLY
