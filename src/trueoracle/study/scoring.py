"""What criteria and mask predictors say of the masks of a stored study, measured afterwards.

Nothing of it changes a trial: scores are columns beside the pruned train loss, for the analysis to hold against what
retraining made of the masks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from trueoracle.store import Claim, Piece, Store
from trueoracle.study.chosen_weights import seen_layers, stored_masks
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.sharing import Sharing, in_pieces, sharing
from trueoracle.study.survey import part_of
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.mask import AnyMask
from trueoracle.words.plugins import look_up
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES, column

_MASKS_A_PIECE = 8  # so many are claimed and stored together, and lost by a kill


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
        with sharing(self.store, self.plan.digest) as ours:
            for base in range(len(self.plan.nets)):
                dense = self._dense(base)
                for cell in self.plan.cells_of(base):
                    if isinstance(cell.space, WeightSpace):
                        stored_masks(self.plan, cell, self.store)
                        refused |= self._by_weights(cell, dense, {n: of_weights[n] for n in asked if n in of_weights})
                refused |= self._by_masks(base, dense, {n: of_masks[n] for n in asked if n in of_masks}, ours)
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

    def _by_masks(self, base: int, dense: Dense, asked: Mapping[str, MaskPredictor], ours: Sharing) -> dict[str, str]:
        """Measure the masks of all cells of a base network; returns the refusals, which are the same for all masks of a cell."""
        refused: dict[str, str] = {}
        open_cells: list[_OpenCell] = []
        for cell in self.plan.cells_of(base):
            if not (left := self._open(cell, asked)):
                continue
            ranks = sorted({rank for of_name in left.values() for rank in of_name})
            example = cell.space.unrank(ranks[0]) if ranks else cell.example
            here = self._first(cell, dense, example, {name: asked[name] for name in left})
            refused |= here
            missing = {name: frozenset(of_name) for name, of_name in left.items() if name not in here and of_name}
            if missing:
                known = tuple(self.store.masks(self.plan.digest, cell.index))
                open_cells.append(_OpenCell(cell=cell, known=known, missing=missing))
        if open_cells:
            self._share(base, dense, asked, {one.cell.index: one for one in open_cells}, ours)
        return refused

    def _share(
        self,
        base: int,
        dense: Dense,
        asked: Mapping[str, MaskPredictor],
        cells: Mapping[int, "_OpenCell"],
        ours: Sharing,
    ) -> None:
        """What is missing in pieces of a few masks: whoever is asked for the same at the same time takes some of them."""
        names = dict.fromkeys(name for one in cells.values() for name in one.missing)
        stage = f"{', '.join(map(self._column, names))} of base network {base}"
        total = sum(len(one.places) for one in cells.values())
        with self.progress.task(f"mask predictors, base network {base}", total, "masks") as advance:

            def missing() -> Iterator[Piece]:
                for index, one in cells.items():
                    yield from in_pieces(one.places, _MASKS_A_PIECE, index)

            def work(piece: Piece, stop: Stop) -> dict[str, dict[int, float]]:
                found: dict[str, dict[int, float]] = {}
                for mask, lacking in cells[piece.cell].of(piece) if piece.cell in cells else ():
                    if stop():
                        break  # nobody keeps what is returned now
                    pruned = dense.pruned(mask)
                    for name in lacking:
                        found.setdefault(name, {})[mask.rank] = asked[name].measure(pruned)
                    advance(1)
                return found

            def keep(claim: Claim, found: Mapping[str, Mapping[int, float]]) -> None:
                for name, values in found.items():
                    digits = cells[claim.piece.cell].cell.digits
                    self.store.add_scores(self.plan.digest, claim.piece.cell, self._column(name), values, digits)
                self.store.settle(claim)

            ours.stage(stage, missing, work, keep, self.executor.run)

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


@dataclass(frozen=True, kw_only=True)
class _OpenCell:
    """A cell whose masks lack scores: `known` are the ranks that the store has, rising, `missing` by predictor those unscored."""

    cell: PlannedCell
    known: Sequence[int]
    missing: Mapping[str, frozenset[int]]

    @cached_property
    def places(self) -> Sequence[int]:
        """Of the masks that lack some score, among all."""
        lacking = frozenset().union(*self.missing.values())
        return [place for place, rank in enumerate(self.known) if rank in lacking]

    def of(self, piece: Piece) -> Iterator[tuple[AnyMask, list[str]]]:
        """The masks of a piece that lack scores, and which."""
        for rank in self.known[piece.start : piece.stop]:
            if lacking := [name for name, unscored in self.missing.items() if rank in unscored]:
                yield self.cell.space.unrank(rank), lacking
