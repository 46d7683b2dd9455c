"""What a search is: a generator that asks for losses of masks and is sent them; it knows no network.

Letters: M masks.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from trueoracle.space import MaskSpace

Losses = NDArray[np.float64]
Kept = tuple[tuple[int, ...], ...]
"""The units that a mask keeps of each site, in the order of the sites."""

Counts = tuple[int, ...]
"""How many those are."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """The mean losses wanted of the masks of these ranks of `space`, over the images at these places of their order.

    `space` is the one that is searched, or one that prunes less of it: greedy searches pass through such masks.
    """

    space: MaskSpace
    ranks: Sequence[int]
    images: range


Asking = Generator[Ask, Losses, float | None]
"""Yields an `Ask`, is sent the losses in the order of its ranks (shape (M,), nats; infinite where a loss is no number).

It returns where it has nothing left to ask: the confidence with which the lowest of the masks it asked for on all images
is the lowest of all that are listed, or None where it claims nothing.
"""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """A mask may cost at most `most`, in `of`: `cost` says what all masks cost that keep so many units of each site."""

    of: str
    cost: Callable[[Counts], int]
    most: int

    def bears(self, counts: Counts) -> bool:
        """Whether masks of these counts may be taken."""
        return self.cost(counts) <= self.most


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is searched: the masks `listed` of `space`, for the lowest mean loss over so many `images`.

    With a `ceiling`, all masks of the sites that it bears are, however many units each site loses.

    `spent` says which share of the budget is used up, in [0, 1]; `ended` is to be told of every mask in which a run of
    the search ended before it begins anew elsewhere. `confidence` is what a search that states one is asked for.
    """

    space: MaskSpace
    listed: Sequence[int]
    images: int
    seed: int
    confidence: float
    spent: Callable[[], float]
    ended: Callable[[int], None]
    ceiling: Ceiling | None = None

    def ask(self, ranks: Sequence[int]) -> Ask:
        """These masks of the space, on all images."""
        return Ask(space=self.space, ranks=ranks, images=range(self.images))

    def random(self) -> Random:
        """The source of every random choice of a search."""
        return Random(self.seed)


def no_need(space: MaskSpace) -> int:  # noqa: ARG001 - what others need depends on it
    """A search that has a mask from its first evaluation on."""
    return 1


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to search. `about` is one line; `propose` begins a search.

    `needs` is the number of evaluations after which it surely has a mask; it raises `SpecError` for a space that this
    search cannot take. `by_itself` says that it ends by itself, so that it may be used without a budget. `lists` is the
    number of masks that it can choose among where they are listed, 0 where it makes its masks itself. `exchanges` says
    that it moves units between sites where there is a ceiling.
    """

    about: str
    propose: Callable[[Problem], Asking]
    needs: Callable[[MaskSpace], int] = no_need
    by_itself: bool = False
    lists: int = 0
    exchanges: bool = False


def anywhere(space: MaskSpace, random: Random) -> int:
    """A mask drawn uniformly."""
    return space.draw(1, random.getrandbits(63))[0]
