"""What criteria and mask predictors say of the masks of a stored study, measured afterwards.

Nothing of it changes a trial: scores are columns beside the pruned train loss, for the analysis to hold against what
retraining made of the masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import thread_time

import torch
from torch import nn

from trueoracle.criteria import (
    CannotJudge,
    Dense,
    MaskPredictor,
    UnitCriterion,
    gathered,
    judged_of,
    mask_predictors,
    score,
    unit_criteria,
)
from trueoracle.data import Dataset
from trueoracle.executors import Executor, Stop
from trueoracle.nets import weights_from_bytes
from trueoracle.store import Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.survey import part_of
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.mask import Mask
from trueoracle.words.plugins import look_up
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES, column

_KEPT_AT_ONCE = 32  # masks between two writes: so many are lost by a kill


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Measures criteria and predictors of the masks of one stored study, those that the store does not have yet.

    `images` train examples are looked at, or all where there are fewer; of each base network the same for every mask.
    """

    plan: Plan
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    images: int = IMAGES

    def measure(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """Score every mask by these criteria and predictors, None for all; returns of those that have nothing to say why.

        `SpecError` for an unknown name or no images, `StoreError` where the study has no base network yet.
        """
        torch.set_num_threads(1)
        known: dict[str, MaskPredictor | UnitCriterion] = {**mask_predictors(), **unit_criteria()}
        asked = {n: look_up("predictor", n, known, SpecError) for n in (known if names is None else names)}
        predictors = {name: one for name, one in asked.items() if isinstance(one, MaskPredictor)}
        criteria = {name: one for name, one in asked.items() if isinstance(one, UnitCriterion)}
        if self.images < 1:
            raise SpecError(f"`images` must be at least 1, but got {self.images}")
        refused: dict[str, str] = {}
        for base in range(len(self.plan.nets)):
            dense = self._dense(base)
            for cell in self.plan.cells_of(base):
                refused |= self._cell(cell, dense, predictors)
            refused |= self._by_units(base, dense, criteria)
        return refused

    def _dense(self, base: int) -> Dense:
        record = self.store.base(self.plan.digest, base)
        if record is None:
            raise StoreError(f"base network {base} of `{self.plan.spec.name}` is not trained yet: run the study")
        if record.data_fingerprint != self.data.fingerprint:
            raise StoreError(f"the study was run on other data than `{self.plan.spec.data}` holds now")
        net: nn.Module = self.plan.nets[base]
        weights_from_bytes(net, record.weights, "of the stored base network")
        return Dense(
            net=net.to(self.data.device).eval(),
            sites=self.plan.sites,
            shape=self.plan.shape,
            examples=part_of(
                self.data.train, min(self.images, len(self.data.train)), self.plan.seed("predictor images", base)
            ),
            lr=self.plan.spec.retrain.lr,
            removal=self.plan.spec.removal,
        )

    def _by_units(self, base: int, dense: Dense, asked: Mapping[str, UnitCriterion]) -> dict[str, str]:
        """Score the masks of all cells of a base network by the importance that they throw away; returns the refusals.

        All sites and criteria are gathered for in one pass, so that no one of them has a cost of its own.
        """
        left = {cell: self._left(cell, asked) for cell in self.plan.cells_of(base)}
        names = {name for ranks in left.values() for name in ranks}
        if not names:
            return {}
        criteria = {name: one for name, one in asked.items() if name in names}
        pruned = [choice.site for cell, ranks in left.items() if ranks for choice in cell.space.sites]
        sites = {name: self.plan.sites[name] for name in dict.fromkeys(pruned)}
        refused: dict[str, str] = {}
        with self.progress.task(f"criteria, base network {base}", sum(map(len, left.values())), "scores") as advance:
            collected = gathered(dense.net, sites, dense.examples, criteria)
            for cell, ranks in left.items():
                own = {choice.site: collected[choice.site] for choice in cell.space.sites if ranks}
                importance, silent = judged_of(own, {name: criteria[name] for name in ranks})
                refused |= {name: next(iter(why.values())) for name, why in silent.items()}
                for name in importance.keys() - silent.keys():
                    values = {rank: score(cell.space.unrank(rank), importance[name]) for rank in ranks[name]}
                    self.store.add_scores(self.plan.digest, cell.index, column(name, self.images), values, cell.digits)
                advance(len(ranks))
        return refused

    def _left(self, cell: PlannedCell, asked: Mapping[str, UnitCriterion]) -> dict[str, list[int]]:
        """The ranks that have no score yet, by criterion; none where all have."""
        ranks = {name: self.store.unscored(self.plan.digest, cell.index, column(name, self.images)) for name in asked}
        return {name: unscored for name, unscored in ranks.items() if unscored}

    def _cell(self, cell: PlannedCell, dense: Dense, asked: Mapping[str, MaskPredictor]) -> dict[str, str]:
        """Score the cell's masks; returns the refusals, which are a network's and so the same for all of them."""
        missing: dict[int, list[str]] = {}
        for name in asked:
            for rank in self.store.unscored(self.plan.digest, cell.index, column(name, self.images)):
                missing.setdefault(rank, []).append(name)
        if not missing:
            return {}
        refused = self._first(cell, dense, cell.space.unrank(min(missing)), asked)
        work = _Work(
            dense=dense, asked={name: one for name, one in asked.items() if name not in refused}, missing=missing
        )
        masks = (cell.space.unrank(rank) for rank in sorted(missing) if set(missing[rank]) - set(refused))
        with self.progress.task(f"mask predictors, {cell.name}", len(missing), "masks") as advance:
            kept: list[tuple[int, dict[str, float]]] = []
            for found in self.executor.run(work, masks):
                kept.append(found)
                advance(1)
                if len(kept) == _KEPT_AT_ONCE:
                    self._keep(cell, kept)
                    kept = []
            self._keep(cell, kept)
        return refused

    def _first(self, cell: PlannedCell, dense: Dense, mask: Mask, asked: Mapping[str, MaskPredictor]) -> dict[str, str]:
        """What one mask costs each predictor, which starts anew to pay for what it would share with others; and the refusals.

        What they share of all masks (see `Dense`) is made before, and not counted.
        """
        refused = {}
        for name, predictor in asked.items():
            try:
                predictor.measure(dense.pruned(mask))
            except CannotJudge as why:
                refused[name] = str(why)
                continue
            began = thread_time()
            predictor.measure(dense.pruned(mask))
            self.store.put_cost(self.plan.digest, cell.index, column(name, self.images), thread_time() - began)
        return refused

    def _keep(self, cell: PlannedCell, found: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for name in dict.fromkeys(name for _, values in found for name in values):
            of_name = {rank: values[name] for rank, values in found if name in values}
            self.store.add_scores(self.plan.digest, cell.index, column(name, self.images), of_name, cell.digits)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One mask: all that is missing of it."""

    dense: Dense
    asked: Mapping[str, MaskPredictor]
    missing: Mapping[int, Sequence[str]]

    def __call__(self, mask: Mask, _stop: Stop) -> tuple[int, dict[str, float]]:
        pruned = self.dense.pruned(mask)
        return mask.rank, {
            name: self.asked[name].measure(pruned) for name in self.missing[mask.rank] if name in self.asked
        }
