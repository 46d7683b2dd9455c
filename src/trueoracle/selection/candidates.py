"""Where masks to be tried come from: what criteria agree on, and chance. Retraining says which were right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
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
SHARE_OF_DRAWS = 0.1
# What units do, and what the loss says of them: of those tried in docs/select.md, the pair whose foremost masks end best.
CRITERIA = ("activation_mean", "taylor_activation")


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Masks of one cell to be tried: `drawn` at random, `named` by criteria, all by rank.

    `origins` has of each named rank why.
    """

    drawn: int
    named: tuple[int, ...]
    origins: dict[int, str]


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

    def candidates(self, cell: PlannedCell, wanted: int, draws: frozenset[int], seed: int) -> Candidates:
        """So many masks of the cell, `draws` among them; fewer where it has no more."""
        criteria = self.importances(cell, seed)
        by = " and ".join(criteria)
        origins: dict[int, str] = {}
        for place, rank in enumerate(foremost(cell.of_units, agreed([*criteria.values()])), 1):
            if len(origins) >= wanted - len(draws):
                break
            if rank not in draws:
                origins[rank] = f"best by {by}" if place == 1 else f"number {place} by {by}"
        return Candidates(drawn=len(draws), named=tuple(sorted(origins)), origins=origins)

    def importances(self, cell: PlannedCell, seed: int) -> Mapping[str, Mapping[str, Tensor]]:
        """By criterion, of those of `CRITERIA` that can judge this network; by L1 where none can."""
        sites = {choice.site: self.sites[choice.site] for choice in cell.space.sites}
        criteria = {name: one for name, one in unit_criteria().items() if name in CRITERIA}
        looked_at, _ = judged(self.base, sites, part_of(self.images, min(IMAGES, len(self.images)), seed), criteria)
        return {name: looked_at[name] for name in CRITERIA if name in looked_at} or {
            "l1": importances(self.base, sites)["l1"]
        }

    def lowest(self, space: MaskSpace, evaluations: int, seed: int) -> list[int]:
        """The masks of lowest pruned train loss that a search comes to, or of all masks, the lowest first: no candidates."""
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


def agreed(criteria: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The sum of the criteria's importances by site, each scaled so that masks differ as much by one as by another."""
    spreads = [sum(float(units.double().var(correction=0)) for units in of.values()) ** 0.5 or 1.0 for of in criteria]
    return {
        site: torch.stack([of[site].double() / spread for of, spread in zip(criteria, spreads, strict=True)]).sum(0)
        for site in criteria[0]
    }
