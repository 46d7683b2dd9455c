"""What every path to a pruned loss has in common: sums over a block of examples, for masks named by rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trueoracle.words.examples import Examples


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Over a block of examples, for M masks: the sum of losses (nats) and the number of right answers."""

    loss_M: NDArray[np.float64]
    correct_M: NDArray[np.int64]


class Evaluator(Protocol):
    """One path to the pruned train loss of the masks of one space of one network.

    Sums of disjoint blocks of examples add up to those of all, on every path. One evaluator may serve several
    threads.
    """

    @property
    def path(self) -> str:
        """How the sums are computed, for the report."""
        ...

    @property
    def masks_at_once(self) -> int:
        """How many masks a call is best given: with fewer less is shared, with more a kill loses more."""
        ...

    @property
    def images_at_once(self) -> int:
        """How many examples a call is best given."""
        ...

    def sums(self, ranks: Sequence[int], examples: Examples) -> Sums:
        """The sums of the masks of these ranks (rising; a `range` for whole spaces), in the order of `ranks`."""
        ...
