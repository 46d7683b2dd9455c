"""Networks: the built-in ones, their prunable sites, physical removal, evaluation, weights and costs."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.nets.cost import Cost, cost, unit_costs
    from trueoracle.nets.evaluate import Evaluation, channels_last, evaluate
    from trueoracle.nets.finding import copied, find_sites
    from trueoracle.nets.hearing import Input, gated_blocks, heard
    from trueoracle.nets.language import save_language_model
    from trueoracle.nets.models import MODELS, build, check_forward, classes_of, has_weights, usual_shape
    from trueoracle.nets.recalibrate import has_batchnorm, recalibrate
    from trueoracle.nets.removal import l1_kept, remove
    from trueoracle.nets.silence import silenced, unnormalised
    from trueoracle.nets.sites import HEADS, Cut, Kind, Normalisation, Role, Site, Sites
    from trueoracle.nets.weighing import channel_weights, unit_moments, unit_weights
    from trueoracle.nets.weights import load_weights, state_bytes, weights_from_bytes
    from trueoracle.words.known import REMOVALS, Removal, check_removal

__all__ = [
    "HEADS",
    "MODELS",
    "REMOVALS",
    "Cost",
    "Cut",
    "Evaluation",
    "Input",
    "Kind",
    "Normalisation",
    "Removal",
    "Role",
    "Site",
    "Sites",
    "build",
    "channel_weights",
    "channels_last",
    "check_forward",
    "check_removal",
    "classes_of",
    "copied",
    "cost",
    "evaluate",
    "find_sites",
    "gated_blocks",
    "has_batchnorm",
    "has_weights",
    "heard",
    "l1_kept",
    "load_weights",
    "recalibrate",
    "remove",
    "save_language_model",
    "silenced",
    "state_bytes",
    "unit_costs",
    "unit_moments",
    "unit_weights",
    "unnormalised",
    "usual_shape",
    "weights_from_bytes",
]

on_demand(__name__)
