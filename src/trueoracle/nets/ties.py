"""Which channels go together: a number for every channel of every side of every layer, and the ties between them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from trueoracle.nets.sites import Normalisation, Role

Numbers = NDArray[np.int64]
_FEW = 64  # ties that are followed one by one faster than by a search of the whole graph


@dataclass(frozen=True)
class Side:
    """The outputs or the inputs of a layer, or the places of a bare parameter or buffer (`role` is then FOLLOWER)."""

    layer: str
    role: Role
    dim: int = 0
    bare: bool = False


@dataclass
class Ties:
    """Channels by number, from 1 on; 0 is what belongs to no channel. Tied channels share a root.

    `stuck` says of channels why they cannot go; `normalised` what computes one number of several channels, such
    as the mean of a normalisation, so that it changes when some of them go. `splits` are channels that a view laid out in
    rows and columns.
    """

    sides: dict[Side, Numbers] = field(default_factory=dict)
    stuck: list[tuple[Numbers, str]] = field(default_factory=list)
    normalised: list[tuple[Numbers, Normalisation]] = field(default_factory=list)
    splits: list[Numbers] = field(default_factory=list)
    _dims: dict[tuple[int, object], Numbers] = field(default_factory=dict)
    _parents: Numbers = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    _count: int = 1

    def side(self, side: Side, channels: int, weight: Tensor | None = None, dim: object = None) -> Numbers:
        """The numbers of a side's channels, made when it is first asked for.

        Sides that are one dimension of one weight, as of layers that share it, have the same.
        """
        if side not in self.sides:
            numbers = self._dims.get((id(weight), dim)) if weight is not None else None
            self.sides[side] = self._fresh(channels) if numbers is None else numbers
        if weight is not None:
            self._dims.setdefault((id(weight), dim), self.sides[side])
        return self.sides[side]

    def roots(self, numbers: Numbers) -> Numbers:
        """Of each channel the one that stands for all that are tied to it."""
        while True:
            above = self._parents[numbers]
            if np.array_equal(above, numbers):
                return numbers
            numbers = above

    def tie(self, some: Numbers, others: Numbers) -> None:
        """Tie channels pairwise; both arrays are of one shape and hold no 0."""
        pairs = np.stack([self.roots(some.ravel()), self.roots(others.ravel())])
        pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
        if pairs.shape[1] <= _FEW:
            for one, other in pairs.T:
                low, high = sorted((self._root(one), self._root(other)))
                self._parents[high] = low
            return
        named, places = np.unique(pairs, return_inverse=True)
        places = places.reshape(2, -1)
        graph = coo_matrix((np.ones(places.shape[1]), (places[0], places[1])), shape=(len(named), len(named)))
        _, component = connected_components(graph, directed=False)
        lowest = np.full(component.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, component, named)
        self._parents[named] = lowest[component]

    def _root(self, number: np.int64) -> np.int64:
        while self._parents[number] != number:
            number = self._parents[number]
        return number

    def _fresh(self, channels: int) -> Numbers:
        if self._count + channels > len(self._parents):
            self._parents = np.concatenate(
                [self._parents, np.arange(len(self._parents), 2 * (self._count + channels), dtype=np.int64)]
            )
        numbers = np.arange(self._count, self._count + channels, dtype=np.int64)
        self._count += channels
        return numbers
