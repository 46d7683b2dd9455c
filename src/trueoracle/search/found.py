"""What a search found, and what may be said of it.

Letters: M masks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trueoracle.search.problem import Ceiling
from trueoracle.space import MaskSpace, Subsets
from trueoracle.words.mask import Mask


@dataclass(frozen=True, kw_only=True)
class Found:
    """The M masks that a search evaluated on all images, in the order in which it asked for them.

    `listed` is how many masks it searched among: all of `space`, or the drawn ones of a race; None under a `ceiling`, where
    they are not counted and `ranks` are those of `Subsets`. `evaluations` counts one mask
    on all images as one, masks outside the space and masks on a part of the images included; `core_seconds` is what
    they took. `ends` are the masks in which runs of the search ended. `confidence` is that of the lowest mask being
    the lowest of all listed, None where nothing is claimed.
    """

    method: str
    space: MaskSpace
    listed: int | None
    images: int
    ranks: tuple[int, ...]
    loss_M: NDArray[np.float64]
    accuracy_M: NDArray[np.float64]
    standard_error_M: NDArray[np.float64]
    evaluations: float
    core_seconds: float
    ends: tuple[int, ...]
    confidence: float | None
    ceiling: Ceiling | None = None

    @cached_property
    def order(self) -> list[int]:
        """Places of the masks from the lowest loss on; equal ones by rank, those whose loss is no number last."""
        comparable_M = np.nan_to_num(self.loss_M, nan=np.inf)
        return sorted(range(len(self.ranks)), key=lambda place: (comparable_M[place], self.ranks[place]))

    def only(self, places: Sequence[int]) -> "Found":
        """The same of the masks at these places alone."""
        chosen = list(places)
        return replace(
            self,
            ranks=tuple(self.ranks[place] for place in chosen),
            loss_M=self.loss_M[chosen],
            accuracy_M=self.accuracy_M[chosen],
            standard_error_M=self.standard_error_M[chosen],
        )

    @property
    def best(self) -> int:
        """The mask of lowest loss by its rank."""
        return self.ranks[self.order[0]]

    @property
    def loss(self) -> float:
        """The lowest loss, in nats."""
        return float(self.loss_M[self.order[0]])

    @property
    def gap(self) -> float | None:
        """How far the second lowest loss lies above it, in nats; None where there is no second."""
        return float(self.loss_M[self.order[1]]) - self.loss if len(self.order) > 1 else None

    @property
    def exact(self) -> bool:
        """Whether no listed mask has a lower loss on these images, for certain."""
        return self.confidence == 1 or len(self.ranks) == self.listed

    def mask(self, rank: int) -> Mask:
        """A mask by what it keeps."""
        return self.space.unrank(rank) if self.ceiling is None else Subsets.of(self.space).unrank(rank)

    @property
    def sentence(self) -> str:
        """What the result is, for how many images, in the words of a report."""
        listed = self.listed or 0
        among = "masks of the space" if self.listed == self.space.count else "drawn masks"
        under = "" if self.ceiling is None else f" of at most {self.ceiling.most:,} {self.ceiling.of}"
        if self.exact:
            kind = f"exact: the lowest of all {listed:,} {among}"
        elif self.confidence is not None:
            kind = f"the lowest of all {listed:,} {among} with confidence {self.confidence:g}"
        else:
            kind = f"best found{under}"
        return f"{kind} by `{self.method}` on {self.images:,} images: {'; '.join(self._facts())}"

    def _facts(self) -> Iterator[str]:
        whole = float(self.evaluations).is_integer()
        yield (
            f"{self.evaluations:,.0f} evaluation{'s' * (self.evaluations != 1)}"
            if whole
            else f"{self.evaluations:,.1f} evaluations' worth"
        )
        if self.ends:
            runs = "1 run ended" if len(self.ends) == 1 else f"{len(self.ends):,} runs ended"
            yield f"{runs}, {self.ends.count(self.best):,} in this mask"
        if self.gap is not None:
            yield f"the second lies {self.gap:.4g} nats above"
        if self.ceiling is not None:
            yield ", ".join(f"{len(part.kept)} of {part.units} of {part.site}" for part in self.mask(self.best).sites)
