"""What a cell says, as a sentence to quote. Rules: docs/verdicts.md."""

from enum import Enum

ALPHA = 0.05
STRONG = 0.5


class Verdict(Enum):
    """By Kendall's tau between predictor and result, signed so that positive means the predictor is right."""

    PREDICTS = "predicts: masks that look better before retraining mostly end better"
    WEAKLY = "predicts weakly: masks that look better before retraining end better somewhat more often than not"
    OPPOSITE = "misleads: masks that look better before retraining end worse more often than not"
    CANNOT_TELL = "cannot tell: no relation was found, which does not show that there is none"


def verdict(agreement: float, p: float) -> Verdict:
    """The verdict for an `agreement` (tau, positive where better before means better after) with naive p."""
    if p >= ALPHA:
        return Verdict.CANNOT_TELL
    if agreement < 0:
        return Verdict.OPPOSITE
    return Verdict.PREDICTS if agreement >= STRONG else Verdict.WEAKLY
