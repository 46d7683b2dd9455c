"""Counting: every way to prune, ranked, unranked and drawn, without ever holding a list. No torch."""

from trueoracle.space.combinations import rank as rank_of_subset
from trueoracle.space.product import MaskSpace, SiteChoice
from trueoracle.space.subsets import Subsets

__all__ = ["MaskSpace", "SiteChoice", "Subsets", "rank_of_subset"]
