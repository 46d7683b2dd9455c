"""Masks named by rank as rows of digits: which masks of a few sites occur among them, and which units those keep.

Letters: M masks, R rows (distinct masks of some sites), U units.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.space.combinations import subsets, unrank

Bound = tuple[int, ...]
_TABLE = 2**16  # masks of a site of which the kept units are held as a table, not computed anew


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The distinct masks of some sites among M masks: `codes_R`, rising; their first place; the row of each of M."""

    codes_R: NDArray[np.generic]
    first_R: NDArray[np.int64]
    row_M: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes_R)


@dataclass(frozen=True)
class KeptUnits:
    """Which units a site's masks keep, looked up for small sites."""

    choice: SiteChoice
    table_RU: NDArray[np.float32] | None = field(init=False)

    def __post_init__(self) -> None:
        n, k = self.choice.units, self.choice.units - self.choice.pruned
        small = self.choice.count <= _TABLE
        object.__setattr__(self, "table_RU", _indicator(list(subsets(n, k)), n) if small else None)

    def __call__(self, digits_R: NDArray[np.generic]) -> NDArray[np.float32]:
        """(R, U): one where the mask of this rank among the site's masks keeps the unit, else zero."""
        if self.table_RU is not None:
            return self.table_RU[digits_R.astype(np.int64)]
        n, k = self.choice.units, self.choice.units - self.choice.pruned
        return _indicator([unrank(int(digit), n, k) for digit in digits_R], n)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some masks of a space as digits, a column a site in the order `order` of the space's sites."""

    digits: tuple[NDArray[np.generic], ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, space: MaskSpace, order: tuple[int, ...], ranks: Sequence[int]) -> "Chunk":
        """The digits of these ranks, in Python's integers where 64 bits would not do."""
        fits = space.count < 2**63
        rest = np.array(ranks, dtype=np.int64 if fits else object)
        digits = []
        for choice in reversed(space.sites):
            digits.append(rest % choice.count)
            rest = rest // choice.count
        forward = digits[::-1]
        return cls(digits=tuple(forward[i] for i in order), counts=tuple(space.sites[i].count for i in order))

    def rows(self, bound: Bound) -> Rows:
        """The distinct masks of these sites, in lexicographic order of their digits."""
        codes_M = np.zeros(len(self.digits[0]), dtype=self.digits[0].dtype)
        for site in bound:
            codes_M = codes_M * self.counts[site] + self.digits[site]
        codes_R, first_R, row_M = np.unique(codes_M, return_index=True, return_inverse=True)
        return Rows(codes_R=codes_R, first_R=first_R, row_M=row_M)


def _indicator(kept: list[tuple[int, ...]], units: int) -> NDArray[np.float32]:
    matrix_RU = np.zeros((len(kept), units), dtype=np.float32)
    matrix_RU[np.arange(len(kept))[:, None], np.array(kept)] = 1
    return matrix_RU
