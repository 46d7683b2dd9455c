"""What criteria and mask predictors say of the masks of a stored study, measured afterwards.

Nothing of it changes a trial: scores are columns beside the pruned train loss, for the analysis to hold against what
retraining made of the masks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import thread_time

import torch
from torch import Tensor, nn

from trueoracle.criteria import (
    CannotJudge,
    Dense,
    MaskPredictor,
    UnitCriterion,
    WeightCriterion,
    afresh,
    gathered,
    gathering_seconds,
    judged_of,
    mask_predictors,
    plain_criteria,
    score,
    shipped_criteria,
    thrown_away,
    unit_criteria,
    weigh,
    weight_criteria,
)
from trueoracle.data import Dataset
from trueoracle.executors import Executor, Stop
from trueoracle.nets import weights_from_bytes
from trueoracle.space import MaskSpace, WeightSpace
from trueoracle.store import Store
from trueoracle.study.chosen_weights import seen_layers, stored_masks
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.survey import part_of
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.mask import AnyMask
from trueoracle.words.plugins import look_up
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES, column

_KEPT_AT_ONCE = 32  # masks between two writes: so many are lost by a kill


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Measures criteria and predictors of the masks of one stored study, and what they cost, as far as the store does not have it yet.

    `images` train examples are looked at, or all where there are fewer; of each base network the same for every mask.
    """

    plan: Plan
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    images: int = IMAGES

    def measure(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """Score every mask by these criteria and predictors, None for all but `tp:`; returns of those that have nothing to say why.

        `SpecError` for an unknown name or no images, `StoreError` where the study has no base network yet.
        """
        torch.set_num_threads(1)
        of_masks, of_weights = mask_predictors(), weight_criteria()
        of_units = {**plain_criteria(), **unit_criteria(), **shipped_criteria(names)}
        known = {**of_masks, **of_units, **of_weights}
        asked = [*known] if names is None else [*names]
        for name in asked:
            look_up("predictor", name, known, SpecError)
        if self.images < 1:
            raise SpecError(f"`images` must be at least 1, but got {self.images}")
        refused: dict[str, str] = {}
        for base in range(len(self.plan.nets)):
            dense = self._dense(base)
            for cell in self.plan.cells_of(base):
                if isinstance(cell.space, WeightSpace):
                    stored_masks(self.plan, cell, self.store)
                    refused |= self._by_weights(cell, dense, {n: of_weights[n] for n in asked if n in of_weights})
                refused |= self._cell(cell, dense, {n: of_masks[n] for n in asked if n in of_masks})
            refused |= self._by_units(base, dense, {n: of_units[n] for n in asked if n in of_units})
        return refused if names is None else refused | self._of_no_cell(names, of_units, of_weights)

    def _of_no_cell(self, names: Sequence[str], *kinds: Mapping[str, object]) -> dict[str, str]:
        """What was asked for though the study prunes nothing of the kind that it judges."""
        units, weights = kinds
        pruned = {type(cell.space) for cell in self.plan.cells}
        return {
            name: "it judges units, and no cell prunes any"
            if name in units
            else "it judges single weights, and no cell prunes any"
            for name in names
            if (name in units or name in weights)
            and not (name in units and MaskSpace in pruned)
            and not (name in weights and WeightSpace in pruned)
        }

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

        All sites and criteria are gathered for in one pass. What each would take without the others, and so without what
        they share, is kept as its cost: a mask's part of it.
        """
        of_units = [cell for cell in self.plan.cells_of(base) if isinstance(cell.space, MaskSpace)]
        left = {cell: self._open(cell, asked) for cell in of_units}
        cells = {cell: ranks for cell, ranks in left.items() if ranks}
        names = {name for ranks in cells.values() for name in ranks}
        if not names:
            return {}
        criteria = {name: one for name, one in asked.items() if name in names}
        pruned = [choice.site for cell in cells for choice in cell.of_units.sites]
        sites = {name: self.plan.sites[name] for name in dict.fromkeys(pruned)}
        masks = sum(cell.count for cell in cells)
        refused: dict[str, str] = {}
        with self.progress.task(f"criteria, base network {base}", sum(map(len, cells.values())), "scores") as advance:
            collected = gathered(dense.net, sites, dense.examples, criteria)
            gathering = {
                needs: gathering_seconds(dense.net, sites, dense.examples, needs)
                for needs in {one.needs for one in criteria.values()}
            }
            for name, criterion in criteria.items():
                alone = afresh(collected)
                began = thread_time()
                importance, silent = judged_of(alone, {name: criterion})
                seconds = (gathering[criterion.needs] + thread_time() - began) / masks
                for cell in (cell for cell, ranks in cells.items() if name in ranks):
                    unjudged = [
                        silent[name][one.site] for one in cell.of_units.sites if one.site in silent.get(name, {})
                    ]
                    if unjudged:
                        refused[name] = unjudged[0]
                    else:
                        self._keep_scores(cell, name, importance[name], cells[cell][name], seconds)
                    advance(1)
        return refused

    def _keep_scores(
        self, cell: PlannedCell, name: str, importance: Mapping[str, Tensor], ranks: Sequence[int], seconds: float
    ) -> None:
        """What these masks throw away, and what it costs to say so of one."""
        values = {rank: score(cell.of_units.unrank(rank), importance) for rank in ranks}
        self.store.put_cost(self.plan.digest, cell.index, self._column(name), seconds)
        self.store.add_scores(self.plan.digest, cell.index, self._column(name), values, cell.digits)

    def _by_weights(self, cell: PlannedCell, dense: Dense, asked: Mapping[str, WeightCriterion]) -> dict[str, str]:
        """Score the masks of a cell of weights by the importance that they throw away; returns the refusals."""
        left = self._left(cell, asked)
        seen = seen_layers(self.plan, cell, dense.net, self.data, self.images)
        refused = {}
        with self.progress.task(f"criteria, {cell.name}", len(left), "scores") as advance:
            for name, ranks in left.items():
                try:
                    of_weights = weigh(seen, cell.of_weights.sites, asked[name])
                except CannotJudge as why:
                    refused[name] = str(why)
                else:
                    values = {rank: thrown_away(cell.of_weights.unrank(rank), of_weights) for rank in ranks}
                    self.store.add_scores(self.plan.digest, cell.index, self._column(name), values, cell.digits)
                advance(1)
        return refused

    def _left(self, cell: PlannedCell, asked: Iterable[str]) -> dict[str, list[int]]:
        """The ranks that have no score yet, by criterion; none where all have."""
        ranks = {name: self.store.unscored(self.plan.digest, cell.index, self._column(name)) for name in asked}
        return {name: unscored for name, unscored in ranks.items() if unscored}

    def _open(self, cell: PlannedCell, asked: Iterable[str]) -> dict[str, list[int]]:
        """As `_left`, and those whose cost is not known, with no ranks."""
        left, costs = self._left(cell, asked), self.store.costs(self.plan.digest)
        uncosted: dict[str, list[int]] = {
            name: [] for name in asked if cell.index not in costs.get(self._column(name), {})
        }
        return uncosted | left

    @cached_property
    def _plain(self) -> frozenset[str]:
        return frozenset(plain_criteria())

    def _column(self, name: str) -> str:
        """What the score is called; those that every study stores look at no images."""
        return name if name in self._plain else column(name, self.images)

    def _cell(self, cell: PlannedCell, dense: Dense, asked: Mapping[str, MaskPredictor]) -> dict[str, str]:
        """Score the cell's masks; returns the refusals, which are a network's and so the same for all of them."""
        wanting = self._open(cell, asked)
        if not wanting:
            return {}
        missing: dict[int, list[str]] = {}
        for name, ranks in wanting.items():
            for rank in ranks:
                missing.setdefault(rank, []).append(name)
        first = cell.space.unrank(min(missing)) if missing else cell.example
        refused = self._first(cell, dense, first, {name: asked[name] for name in wanting})
        if not missing:
            return refused
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

    def _first(
        self, cell: PlannedCell, dense: Dense, mask: AnyMask, asked: Mapping[str, MaskPredictor]
    ) -> dict[str, str]:
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
            self.store.put_cost(self.plan.digest, cell.index, self._column(name), thread_time() - began)
        return refused

    def _keep(self, cell: PlannedCell, found: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for name in dict.fromkeys(name for _, values in found for name in values):
            of_name = {rank: values[name] for rank, values in found if name in values}
            self.store.add_scores(self.plan.digest, cell.index, self._column(name), of_name, cell.digits)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One mask: all that is missing of it."""

    dense: Dense
    asked: Mapping[str, MaskPredictor]
    missing: Mapping[int, Sequence[str]]

    def __call__(self, mask: AnyMask, _stop: Stop) -> tuple[int, dict[str, float]]:
        pruned = self.dense.pruned(mask)
        return mask.rank, {
            name: self.asked[name].measure(pruned) for name in self.missing[mask.rank] if name in self.asked
        }
