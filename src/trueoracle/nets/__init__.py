"""Networks: the built-in ones, their prunable sites, physical removal, evaluation, weights and costs."""

from trueoracle.nets.catalogue import MODELS, build
from trueoracle.nets.cost import Cost, cost
from trueoracle.nets.evaluate import Evaluation, channels_last, evaluate
from trueoracle.nets.removal import remove
from trueoracle.nets.sites import Site, find_sites
from trueoracle.nets.weights import load_weights, state_bytes, weights_from_bytes

__all__ = [
    "MODELS",
    "Cost",
    "Evaluation",
    "Site",
    "build",
    "channels_last",
    "cost",
    "evaluate",
    "find_sites",
    "load_weights",
    "remove",
    "state_bytes",
    "weights_from_bytes",
]
