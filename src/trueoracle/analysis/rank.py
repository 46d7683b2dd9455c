"""Points ready for Kendall's tau: in order of x, with ranks. And the naive tests of correlation."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis import compiled
from trueoracle.analysis.masks import Values


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """`order` sorts the points by x; `x_group` and `y_rank` are in that order (see `tau`)."""

    order: NDArray[np.int64]
    x_group: NDArray[np.int64]
    y_rank: NDArray[np.int64]
    tied_x: int
    tied_y: int

    @classmethod
    def of(cls, x: Values, y: Values) -> Self:
        """The points (x, y), each of shape (n,)."""
        order = np.argsort(x, kind="stable")
        y_rank, tied_y = dense_rank(y)
        x_group, tied_x = dense_rank(x)
        return cls(order=order, x_group=x_group[order], y_rank=y_rank[order] + 1, tied_x=tied_x, tied_y=tied_y)

    @property
    def denominator(self) -> float:
        """tau-b's: the geometric mean of the pairs that do not tie in x and of those that do not in y."""
        pairs = len(self.order) * (len(self.order) - 1) // 2
        return float(np.sqrt(pairs - self.tied_x) * np.sqrt(pairs - self.tied_y))

    @property
    def concordance(self) -> int:
        """Concordant minus discordant pairs."""
        n = len(self.order)
        return int(compiled.concordance(self.x_group, self.y_rank, np.ones(n, np.int64), np.zeros(n + 1, np.int64)))

    @property
    def tau(self) -> float:
        """Kendall's tau-b."""
        return float(np.clip(self.concordance / self.denominator, -1, 1))


def kendall_tau(x: Values, y: Values) -> float:
    """Kendall's tau-b of the points (x, y), neither constant."""
    return Ranked.of(x, y).tau


def dense_rank(values: Values) -> tuple[NDArray[np.int64], int]:
    """Ranks from 0, equal values sharing one; and how many pairs are equal."""
    _, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
    return rank.astype(np.int64), int((counts * (counts - 1) // 2).sum())
