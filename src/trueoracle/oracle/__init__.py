"""The oracle: the pruned train loss of masks, before any retraining."""

from trueoracle.oracle.batched import Batched, CannotBatch, batched
from trueoracle.oracle.evaluator import Evaluator, Sums
from trueoracle.oracle.loop import Loop, PrunedLoss, pruned_losses
from trueoracle.oracle.paths import PATHS, evaluator

__all__ = [
    "PATHS",
    "Batched",
    "CannotBatch",
    "Evaluator",
    "Loop",
    "PrunedLoss",
    "Sums",
    "batched",
    "evaluator",
    "pruned_losses",
]
