"""The oracle: the pruned train loss of masks, before any retraining."""

from trueoracle.oracle.loop import PrunedLoss, pruned_losses

__all__ = ["PrunedLoss", "pruned_losses"]
