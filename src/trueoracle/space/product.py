"""The mask space of a cell: the product over its sites of all subsets of a size. Counted, never listed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import comb, prod
from random import Random

from trueoracle.space.combinations import rank, subsets, unrank
from trueoracle.words.errors import SpecError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.spec import pruned_count


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteChoice:
    """Any `pruned` of the `units` units of a site; both at least one unit lost and one kept."""

    site: str
    units: int
    pruned: int

    def __post_init__(self) -> None:
        if not 0 < self.pruned < self.units:
            raise ValueError(f"`pruned` must lie in (0, {self.units}), but got {self.pruned}")

    @classmethod
    def at_ratio(cls, site: str, units: int, ratio: float) -> "SiteChoice":
        """floor(units x ratio) units pruned; `SpecError` where that is none or all of them."""
        if not 0 < ratio < 1:
            raise SpecError(f"the ratio of `{site}` must lie in (0, 1), but got {ratio:g}")
        pruned = pruned_count(units, ratio)
        if pruned == 0:
            raise SpecError(
                f"ratio {ratio:g} prunes nothing of `{site}`: floor({units} x {ratio:g}) = 0; "
                f"the smallest useful ratio is {1 / units:g}"
            )
        return cls(site=site, units=units, pruned=pruned)

    @property
    def count(self) -> int:
        """C(units, pruned)."""
        return comb(self.units, self.pruned)


@dataclass(frozen=True)
class MaskSpace:
    """Every way to prune `sites`, each named by an integer.

    A mask's rank is a mixed-radix number whose digits are, first site most significant, the ranks of the
    sites' *kept* units in the combinatorial number system. Iteration is in order of rank.
    """

    sites: tuple[SiteChoice, ...]

    @cached_property
    def count(self) -> int:
        """How many masks there are: a product of binomials, exact however large."""
        return prod(site.count for site in self.sites)

    @property
    def digits(self) -> int:
        """Decimal digits of the largest rank."""
        return len(str(self.count - 1))

    @property
    def first(self) -> Mask:
        """The mask of rank 0."""
        return self.unrank(0)

    def __iter__(self) -> Iterator[Mask]:
        for place, kept in enumerate(_all_kept(self.sites)):
            yield self._mask(place, kept)

    def rank(self, mask: Mask) -> int:
        """The mask's place in the space; the inverse of `unrank`."""
        place = 0
        for choice, part in zip(self.sites, mask.sites, strict=True):
            place = place * choice.count + rank(part.kept)
        return place

    def unrank(self, place: int) -> Mask:
        """The mask of this rank; `ValueError` outside [0, count)."""
        if not 0 <= place < self.count:
            raise ValueError(f"`place` must lie in [0, {self.count}), but got {place}")
        rest = place
        kept: list[tuple[int, ...]] = []
        for choice in reversed(self.sites):
            rest, digit = divmod(rest, choice.count)
            kept.append(unrank(digit, choice.units, choice.units - choice.pruned))
        return self._mask(place, tuple(reversed(kept)))

    def draw(self, number: int, seed: int) -> tuple[int, ...]:
        """`number` distinct ranks, every set of them equally likely, in rising order.

        Floyd's algorithm (Bentley and Floyd, CACM 30(9), 1987): time and memory follow `number`, not the space.
        """
        if not 0 < number <= self.count:
            raise SpecError(f"cannot draw {number} masks from a space of {self.count}")
        random = Random(seed)
        drawn: set[int] = set()
        for top in range(self.count - number, self.count):
            place = _below(random, top + 1)
            drawn.add(top if place in drawn else place)
        return tuple(sorted(drawn))

    def _mask(self, place: int, kept: tuple[tuple[int, ...], ...]) -> Mask:
        parts = zip(self.sites, kept, strict=True)
        return Mask(
            rank=place,
            sites=tuple(SiteMask(site=choice.site, units=choice.units, kept=keep) for choice, keep in parts),
        )


def _all_kept(sites: tuple[SiteChoice, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The kept units of every mask in order of rank; unlike `itertools.product`, nothing is held."""
    if not sites:
        yield ()
        return
    first, *others = sites
    for kept in subsets(first.units, first.units - first.pruned):
        for rest in _all_kept(tuple(others)):
            yield (kept, *rest)


def _below(random: Random, bound: int) -> int:
    """Uniform in [0, bound) from raw bits by rejection, so that no Python version changes a draw."""
    bits = bound.bit_length()
    while (value := random.getrandbits(bits)) >= bound:
        pass
    return value
