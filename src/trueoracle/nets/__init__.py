"""Networks: the built-in ones, their prunable sites, physical removal, evaluation, weights and costs."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.nets.blockwise import GROUPS, Amplified, Groups, shuffled, smallest, weight_groups
    from trueoracle.nets.cost import Cost, cost, unit_costs
    from trueoracle.nets.diffusion import Denoiser, check_size, denoiser
    from trueoracle.nets.evaluate import Evaluation, channels_last, evaluate
    from trueoracle.nets.even import even_config
    from trueoracle.nets.finding import copied, find_sites
    from trueoracle.nets.hearing import Input, gated_blocks, heard
    from trueoracle.nets.hugging_face import ImageClassifier
    from trueoracle.nets.language import save_language_model
    from trueoracle.nets.masked import in_order, kept_weights, layers_called, mask_weights, unmasked, weight_shapes
    from trueoracle.nets.models import MODELS, build, check_forward, classes_of, has_weights, usual_shape
    from trueoracle.nets.pruning import prune
    from trueoracle.nets.recalibrate import has_batchnorm, recalibrate
    from trueoracle.nets.removal import l1_kept, remove
    from trueoracle.nets.sampling import sample
    from trueoracle.nets.silence import silenced, unnormalised
    from trueoracle.nets.sites import HEADS, Cut, Kind, Normalisation, Role, Site, Sites
    from trueoracle.nets.weighing import channel_weights, unit_moments, unit_weights
    from trueoracle.nets.weights import load_weights, state_bytes, weights_from_bytes
    from trueoracle.words.known import REMOVALS, Removal, check_removal

__all__ = [
    "GROUPS",
    "HEADS",
    "MODELS",
    "REMOVALS",
    "Amplified",
    "Cost",
    "Cut",
    "Denoiser",
    "Evaluation",
    "Groups",
    "ImageClassifier",
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
    "check_size",
    "classes_of",
    "copied",
    "cost",
    "denoiser",
    "evaluate",
    "even_config",
    "find_sites",
    "gated_blocks",
    "has_batchnorm",
    "has_weights",
    "heard",
    "in_order",
    "kept_weights",
    "l1_kept",
    "layers_called",
    "load_weights",
    "mask_weights",
    "prune",
    "recalibrate",
    "remove",
    "sample",
    "save_language_model",
    "shuffled",
    "silenced",
    "smallest",
    "state_bytes",
    "unit_costs",
    "unit_moments",
    "unit_weights",
    "unmasked",
    "unnormalised",
    "usual_shape",
    "weight_groups",
    "weight_shapes",
    "weights_from_bytes",
]

on_demand(__name__)
