"""Where masks to be tried come from: criteria, the searched oracle, and chance.

No source is trusted: each in turn names the next mask of its own order, and retraining says which were right.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from trueoracle.criteria import importances, judged, unit_criteria
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.nets import Removal, Sites
from trueoracle.oracle import Evaluator
from trueoracle.search import Budget, Hunt
from trueoracle.selection.foremost import foremost
from trueoracle.space import MaskSpace
from trueoracle.study.plan import PlannedCell
from trueoracle.study.searching import hunt_beside, question_of
from trueoracle.study.survey import part_of, survey
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES

EXACT_EVALUATIONS = 3000  # where the oracle's exact path takes the network, they cost next to nothing
SHARE_OF_DRAWS = 0.2
# Beside those that every study stores: of each kind of evidence (weights, activations, gradients) what does well in docs/criteria.md.
CRITERIA = ("activation_mean", "group_norm", "wanda", "taylor_activation")


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
        found = self._found(cell.of_units, evaluations, seed)
        named = {"pruned train loss": iter(found)} | {
            name: foremost(cell.of_units, units) for name, units in self._importances(cell, seed).items()
        }
        origins: dict[int, str] = {}
        for rank, origin in in_turns(named):
            if len(origins) >= wanted - len(draws):
                break
            if rank not in draws:
                origins.setdefault(rank, origin)
        return Candidates(drawn=len(draws), named=tuple(sorted(origins)), origins=origins, lowest=tuple(found))

    def _importances(self, cell: PlannedCell, seed: int) -> Mapping[str, Mapping[str, Tensor]]:
        """By criterion; those that cannot judge this network are left out, and so is the one that looks at nothing."""
        sites = {choice.site: self.sites[choice.site] for choice in cell.space.sites}
        criteria = {name: one for name, one in unit_criteria().items() if name in CRITERIA}
        looked_at, _ = judged(self.base, sites, part_of(self.images, min(IMAGES, len(self.images)), seed), criteria)
        at_once = importances(self.base, sites)
        return {
            **{name: looked_at[name] for name in CRITERIA if name in looked_at},
            **{n: u for n, u in at_once.items() if n != "random"},
        }

    def _found(self, space: MaskSpace, evaluations: int, seed: int) -> list[int]:
        """The masks of lowest pruned train loss that a search comes to, or of all masks, the lowest first."""
        question = question_of(self.base, space, self.data, self.progress, images=self.images, removal=self.removal)
        if question.evaluator.path.startswith("exact"):
            evaluations = max(evaluations, EXACT_EVALUATIONS)
        if space.count <= evaluations:
            return self._in_order(question.evaluator, space)
        hunt = Hunt(method="swaps", budget=Budget(evaluations=evaluations), seed=seed)
        found = hunt_beside({}, question, hunt, self.executor, self.progress)
        return [found.ranks[place] for place in found.order]

    def _in_order(self, evaluator: Evaluator, space: MaskSpace) -> list[int]:
        """All masks, those of lowest pruned train loss first."""
        losses = survey(
            evaluator, range(space.count), self.images, self.executor, self.progress, what="all masks",
            population=len(self.data.train),
        )  # fmt: skip
        loss_M = np.concatenate([part.loss_M for part in losses])
        return [int(rank) for rank in np.argsort(loss_M, kind="stable")]


def in_turns(orders: Mapping[str, Iterator[int]]) -> Iterator[tuple[int, str]]:
    """The first mask of every order, then the second of each, and so on; an order that ends drops out."""
    left = dict(orders)
    place = 0
    while left:
        place += 1
        for name, order in list(left.items()):
            rank = next(order, None)
            if rank is None:
                del left[name]
            else:
                yield rank, f"best by {name}" if place == 1 else f"number {place} by {name}"
