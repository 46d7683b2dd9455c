"""Training: the one loop that trains base networks and retrains pruned ones."""

from trueoracle.fleet.loop import Stopped, Trained, figures_of, train

__all__ = ["Stopped", "Trained", "figures_of", "train"]
