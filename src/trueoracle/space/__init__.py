"""Counting: every way to prune, ranked, unranked and drawn, without ever holding a list. No torch."""

from trueoracle.space.combinations import rank as rank_of_subset
from trueoracle.space.product import MaskSpace, SiteChoice
from trueoracle.space.subsets import Subsets
from trueoracle.space.weights import WeightSpace, at_pattern, at_ratio

AnySpace = MaskSpace | WeightSpace

__all__ = [
    "AnySpace",
    "MaskSpace",
    "SiteChoice",
    "Subsets",
    "WeightSpace",
    "at_pattern",
    "at_ratio",
    "rank_of_subset",
]
