"""Training: networks of one shape in lockstep, base networks alone, and the plain loop that both are held to."""

from trueoracle.fleet.door import BACKENDS, Backend, Choice, choose, figures_alone, train_alone, train_fleet
from trueoracle.fleet.loop import Stopped, Trained, figures_of, train

__all__ = [
    "BACKENDS",
    "Backend",
    "Choice",
    "Stopped",
    "Trained",
    "choose",
    "figures_alone",
    "figures_of",
    "train",
    "train_alone",
    "train_fleet",
]
