"""Which masks are asked for, as a tree: a level for each site, in the order of the layers, every prefix once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueoracle.space import MaskSpace
from trueoracle.space.combinations import unrank

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Level:
    """Nodes in order of their parents: node i chooses `pick_i` of the masks `kept` of this level's site."""

    parent: Indices
    pick: Indices
    kept: list[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.pick)

    def under(self, begin: int, end: int) -> slice:
        """The nodes whose parents lie in [begin, end)."""
        found = np.searchsorted(self.parent, [begin, end])
        return slice(int(found[0]), int(found[1]))


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Levels from the first site to the last. `leaf_of` says where in the leaves each mask asked for is.

    Where `full`, the last level is not listed: each node above it has all of that site's masks, `last_kept`.
    """

    levels: tuple[Level, ...]
    full: bool
    last_kept: list[tuple[int, ...]]
    leaf_of: Indices | slice

    @property
    def leaves(self) -> int:
        above = len(self.levels[-1]) if self.levels else 1
        return above * len(self.last_kept) if self.full else above


def listed(space: MaskSpace, order: Sequence[int], ranks: Sequence[int]) -> Tree:
    """The tree of these ranks, each mask of the last site named. `order` lists the space's sites by layer."""
    digits = _digits(space, ranks)[:, list(order)]
    by_layer = np.lexsort(digits.T[::-1])
    levels, parent_of = [], np.zeros(len(ranks), dtype=np.int64)
    for column, site in enumerate(order):
        digit_M = digits[by_layer, column]
        used, pick_M = np.unique(digit_M, return_inverse=True)
        fresh = np.ones(len(digit_M), dtype=bool)
        fresh[1:] = (np.diff(parent_of) != 0) | (np.diff(digit_M) != 0)
        kept = [_kept(space, site, int(digit)) for digit in used]
        levels.append(Level(parent=parent_of[fresh], pick=pick_M[fresh].astype(np.int64), kept=kept))
        parent_of = np.cumsum(fresh) - 1
    leaf_of = np.empty(len(ranks), dtype=np.int64)
    leaf_of[by_layer] = parent_of
    return Tree(levels=tuple(levels), full=False, last_kept=[], leaf_of=leaf_of)


def covering(space: MaskSpace, ranks: Sequence[int]) -> Tree:
    """The tree of the smallest run of whole families of the last site that holds these ranks; sites are in layer order."""
    last = space.sites[-1]
    begin, end = ranks[0] // last.count, ranks[-1] // last.count + 1
    above = MaskSpace(space.sites[:-1])
    levels = listed(above, range(len(above.sites)), range(begin, end)).levels if above.sites else ()
    shift = begin * last.count
    leaf_of = (
        slice(ranks.start - shift, ranks.stop - shift)
        if isinstance(ranks, range)
        else np.asarray(ranks, dtype=np.int64) - shift
    )
    kept = [_kept(space, len(space.sites) - 1, digit) for digit in range(last.count)]
    return Tree(levels=levels, full=True, last_kept=kept, leaf_of=leaf_of)


def _digits(space: MaskSpace, ranks: Sequence[int]) -> Indices:
    """(masks, sites): each mask's rank within each site. Spaces beyond 2^63 go through Python's integers."""
    small = space.count < 2**63
    rest = (
        np.arange(ranks.start, ranks.stop, ranks.step, dtype=np.int64)
        if small and isinstance(ranks, range)
        else np.array(ranks, dtype=np.int64 if small else object)
    )
    digits = np.empty((len(ranks), len(space.sites)), dtype=np.int64 if small else object)
    for column in range(len(space.sites) - 1, -1, -1):
        digits[:, column] = rest % space.sites[column].count
        rest = rest // space.sites[column].count
    return digits


def _kept(space: MaskSpace, site: int, digit: int) -> tuple[int, ...]:
    choice = space.sites[site]
    return unrank(digit, choice.units, choice.units - choice.pruned)
