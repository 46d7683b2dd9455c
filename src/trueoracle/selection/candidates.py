"""Where masks to be tried come from: criteria, the searched oracle, and chance.

No source is trusted: each brings some, and retraining says which were right. Random masks are the largest part of what
is left after criteria, for low pruned loss is what is not to be relied on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from trueoracle.criteria import importances
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.nets import Removal, Sites
from trueoracle.search import Budget, Hunt
from trueoracle.space import MaskSpace
from trueoracle.study.plan import PlannedCell
from trueoracle.study.searching import hunt_beside, question_of
from trueoracle.words.examples import Examples
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.progress import Progress

EXACT_EVALUATIONS = 3000  # where the oracle's exact path takes the network, they cost next to nothing
SHARE_OF_DRAWS = 0.4


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Masks of one cell to be tried: `drawn` at random, `named` by a source, all by rank.

    `origins` has of each named rank who named it; `lowest` are the masks that the search evaluated, those of lowest
    pruned train loss first.
    """

    drawn: int
    named: tuple[int, ...]
    origins: dict[int, str]
    lowest: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What candidates are made from: a dense network, its sites, and the train images its pruned losses are taken on."""

    base: nn.Module
    sites: Sites
    data: Dataset
    images: Examples
    removal: Removal
    executor: Executor
    progress: Progress

    def candidates(
        self, cell: PlannedCell, wanted: int, draws: frozenset[int], evaluations: int, seed: int
    ) -> Candidates:
        """So many masks of the cell, `draws` among them; fewer where the sources name no more."""
        best_by = {name: best_mask_of(cell.of_units, units) for name, units in self._importances(cell).items()}
        found = self._found(cell.of_units, evaluations, seed)
        origins: dict[int, str] = {}
        for rank, origin in _named(best_by, found):
            if len(origins) >= max(0, wanted - len(draws)):
                break
            if rank not in draws:
                origins.setdefault(rank, origin)
        return Candidates(
            drawn=len(draws),
            named=tuple(sorted(origins)),
            origins=origins,
            lowest=tuple(found),
        )

    def _importances(self, cell: PlannedCell) -> Mapping[str, Mapping[str, Tensor]]:
        return importances(self.base, {choice.site: self.sites[choice.site] for choice in cell.space.sites})

    def _found(self, space: MaskSpace, evaluations: int, seed: int) -> list[int]:
        """The masks of lowest pruned train loss that a search comes to, the lowest first."""
        question = question_of(self.base, space, self.data, self.progress, images=self.images, removal=self.removal)
        if question.evaluator.path.startswith("exact"):
            evaluations = max(evaluations, EXACT_EVALUATIONS)
        hunt = Hunt(method="swaps", budget=Budget(evaluations=evaluations), seed=seed)
        found = hunt_beside({}, question, hunt, self.executor, self.progress)
        return [found.ranks[place] for place in found.order]


def best_mask_of(space: MaskSpace, importance: Mapping[str, Tensor]) -> int:
    """The rank of the mask that keeps the units of highest importance at every site; of equal ones the first."""
    parts = []
    for choice in space.sites:
        units = importance[choice.site].tolist()
        order = sorted(range(choice.units), key=lambda unit: -units[unit])
        kept = tuple(sorted(order[: choice.units - choice.pruned]))
        parts.append(SiteMask(site=choice.site, units=choice.units, kept=kept))
    return space.rank(Mask(rank=0, sites=tuple(parts)))


def _named(best_by: Mapping[str, int], found: list[int]) -> Iterator[tuple[int, str]]:
    """The oracle mask, what each criterion keeps, then the next lowest losses."""
    yield found[0], "lowest pruned train loss"
    for name, rank in best_by.items():
        if name != "random":
            yield rank, f"best by {name}"
    for place, rank in enumerate(found[1:], start=2):
        yield rank, f"number {place} by pruned train loss"
