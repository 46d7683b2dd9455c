"""The oracle: the pruned train loss of masks, before any retraining."""

from trueoracle.oracle.accumulate import PrunedLosses, accumulate
from trueoracle.oracle.batched import Batched, CannotBatch, batched
from trueoracle.oracle.evaluator import Evaluator, Sums
from trueoracle.oracle.exact import Exact, exact
from trueoracle.oracle.loop import Loop
from trueoracle.oracle.paths import evaluator
from trueoracle.oracle.table import loss_table, pruned_column

__all__ = [
    "Batched",
    "CannotBatch",
    "Evaluator",
    "Exact",
    "Loop",
    "PrunedLosses",
    "Sums",
    "accumulate",
    "batched",
    "evaluator",
    "exact",
    "loss_table",
    "pruned_column",
]
