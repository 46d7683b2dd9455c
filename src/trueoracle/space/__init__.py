"""Counting: every way to prune, ranked, unranked and drawn, without ever holding a list. No torch."""

from trueoracle.space.product import MaskSpace, SiteChoice

__all__ = ["MaskSpace", "SiteChoice"]
