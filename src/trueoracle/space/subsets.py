"""All masks of some sites, whatever number of units each keeps: for searches that move units between sites."""

from collections.abc import Sequence
from dataclasses import dataclass

from trueoracle.space.product import MaskSpace
from trueoracle.words.mask import Mask, SiteMask


@dataclass(frozen=True)
class Subsets:
    """Every mask of `sites` (name and number of units) that keeps a unit of each site at least.

    A mask's rank is the integer whose binary digits say which units are kept, the last site's first unit the lowest.
    """

    sites: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, space: MaskSpace) -> "Subsets":
        """Those of the sites of a space."""
        return cls(tuple((choice.site, choice.units) for choice in space.sites))

    def rank(self, kept: Sequence[Sequence[int]]) -> int:
        """Of the mask that keeps these units of each site; the inverse of `unrank`."""
        place = 0
        for (_, units), of_site in zip(self.sites, kept, strict=True):
            place = (place << units) | sum(1 << unit for unit in of_site)
        return place

    def unrank(self, place: int) -> Mask:
        """The mask of this rank; sites that lose nothing are part of it. `ValueError` where a site would keep nothing."""
        rest, parts = place, []
        for site, units in reversed(self.sites):
            rest, bits = rest >> units, rest & ((1 << units) - 1)
            if not bits:
                raise ValueError(f"mask {place} keeps nothing of `{site}`")
            parts.append(
                SiteMask(site=site, units=units, kept=tuple(unit for unit in range(units) if bits >> unit & 1))
            )
        if rest:
            raise ValueError(f"`place` must lie below 2^{sum(units for _, units in self.sites)}, but got {place}")
        return Mask(rank=place, sites=tuple(reversed(parts)))
