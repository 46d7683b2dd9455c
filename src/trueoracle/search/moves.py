"""Masks beside a mask: one swap away, without a list of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import overload

from trueoracle.space import MaskSpace, rank_of_subset
from trueoracle.words.mask import Mask, SiteMask


@dataclass(frozen=True)
class _Part:
    """One site of a mask: its units, the rank of those kept, and what a step of that rank adds to the mask's."""

    kept: tuple[int, ...]
    pruned: tuple[int, ...]
    digit: int
    weight: int


class Swaps(Sequence[int]):
    """The masks one swap away from a mask: in one site, a kept unit goes and a pruned one stays instead.

    Sum over the sites of k(n - k) ranks, each computed when it is asked for.
    """

    def __init__(self, space: MaskSpace, rank: int) -> None:
        self._rank = rank
        parts, weight = [], 1
        for choice, part in zip(reversed(space.sites), reversed(space.unrank(rank).sites), strict=True):
            parts.append(_Part(part.kept, part.pruned, rank_of_subset(part.kept), weight))
            weight *= choice.count
        self._parts = parts[::-1]
        self._ends = list(accumulate(len(part.kept) * len(part.pruned) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, number: int) -> int: ...
    @overload
    def __getitem__(self, number: slice) -> list[int]: ...
    def __getitem__(self, number: int | slice) -> int | list[int]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        site = next(place for place, end in enumerate(self._ends) if number < end)
        part = self._parts[site]
        first = self._ends[site - 1] if site else 0
        leaves, comes = divmod(number - first, len(part.pruned))
        kept = sorted({*part.kept} - {part.kept[leaves]} | {part.pruned[comes]})
        return self._rank + (rank_of_subset(kept) - part.digit) * part.weight

    def shuffled(self, random: Random) -> "map[int]":
        """All of them in a random order."""
        return map(self.__getitem__, random.sample(range(len(self)), len(self)))

    def any(self, random: Random) -> int:
        """One of them."""
        return self[random.randrange(len(self))]


def mask_of(space: MaskSpace, kept: Sequence[Sequence[int]]) -> int:
    """The rank of the mask that keeps these units of each site."""
    parts = (
        SiteMask(site=choice.site, units=choice.units, kept=tuple(sorted(units)))
        for choice, units in zip(space.sites, kept, strict=True)
    )
    return space.rank(Mask(rank=0, sites=tuple(parts)))
