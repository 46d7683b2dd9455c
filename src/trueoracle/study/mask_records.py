"""What is stored of a mask once its pruned loss is known; and the masks of weights that criteria and searches choose."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trueoracle.criteria import Seen, chance, importances, score, thrown_away, weigh, weight_criteria
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.oracle import Evaluator, PrunedLosses, accumulate, evaluator
from trueoracle.search import Found, row_by_row
from trueoracle.space import WeightSpace
from trueoracle.store import MaskRecord, Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.survey import part_of, survey
from trueoracle.words.examples import Examples
from trueoracle.words.mask import AnyMask, Mask, WeightMask, read_mask
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES

Judge = Callable[[AnyMask], dict[str, float]]
"""What the criteria that every study stores say of a mask: of weights alone, lower is better."""


def mask_scores(plan: Plan, cell: PlannedCell, base: nn.Module) -> Judge:
    """The judge of a cell's masks."""
    if isinstance(cell.space, WeightSpace):
        sites = cell.space.sites
        seen = Seen(base, [layer for group in sites for layer, _ in group.layers])
        of_weights = {"magnitude": weigh(seen, sites, weight_criteria()["magnitude"]), "random": chance(sites)}
        return lambda mask: (
            {n: thrown_away(mask, scores) for n, scores in of_weights.items()} if isinstance(mask, WeightMask) else {}
        )
    of_units = importances(base, {choice.site: plan.sites[choice.site] for choice in cell.space.sites})
    return lambda mask: {n: score(mask, units) for n, units in of_units.items()} if isinstance(mask, Mask) else {}


def mask_records(
    cell: PlannedCell, ranks: Sequence[int], losses: PrunedLosses | Found, judge: Judge, *, chosen: AbstractSet[int]
) -> list[MaskRecord]:
    """`chosen` masks, by rank, are none of a random sample."""
    rows = zip(ranks, losses.loss_M, losses.accuracy_M, losses.standard_error_M, strict=True)
    return [
        MaskRecord(
            cell=cell.index,
            rank=mask.rank,
            pruned=mask.pruned_json,
            loss=float(loss),
            accuracy=float(accuracy),
            standard_error=float(error),
            scores=judge(mask),
            searched=mask.rank in chosen,
        )
        for mask, loss, accuracy, error in ((cell.space.unrank(rank), *facts) for rank, *facts in rows)
    ]


def chosen_weights(
    plan: Plan,
    cell: PlannedCell,
    base: nn.Module,
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
) -> PlannedCell:
    """A cell of weights with the masks that its criteria give and its search finds.

    They are in the store, or made now, evaluated and stored together: a kill before that has all of them made anew.
    """
    space, wanted = cell.of_weights, len(cell.criteria) + (cell.search is not None)
    if not wanted:
        return cell
    kept = stored_masks(plan, cell, store)
    if len(kept) < wanted:
        path = evaluator(base, space, plan.shape)
        images = part_of(data.train, plan.spec.oracle_images, plan.seed("oracle images", cell.base))
        masks = criterion_masks(plan, cell, base, data) if cell.criteria else []
        if cell.search is not None:
            masks.append(_row_by_row(cell, path, images, executor, progress))
        kept = space.learn(masks)
        judge, what = mask_scores(plan, cell, base), f"{cell.name}, chosen"
        found = survey(path, sorted(kept), images, executor, progress, what=what, population=len(data.train))
        records = [r for part in found for r in mask_records(cell, part.ranks, part, judge, chosen={*kept})]
        store.put_masks(plan.digest, records, cell.digits)
    return replace(cell, found=tuple(kept))


def _row_by_row(
    cell: PlannedCell, path: Evaluator, images: Examples, executor: Executor, progress: Progress
) -> WeightMask:
    """See `trueoracle.search.row_by_row`; masks on the way are forgotten."""
    space = cell.of_weights

    def judge(masks: Sequence[WeightMask]) -> NDArray[np.float64]:
        names = space.learn(masks)
        found = accumulate(path, sorted(names), images, run=executor.run)
        loss_of = dict(zip(found.ranks, found.loss_M.tolist(), strict=True))
        space.forget(names)
        return np.array([loss_of[name] for name in names])

    rows = sum(group.rows for group in space.sites)
    with progress.task(f"row by row, {cell.name}", rows, "rows") as advance:
        return row_by_row(space, judge, advance)


def criterion_masks(plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset) -> list[WeightMask]:
    """For each criterion of the cell the mask that keeps what it holds most important, as it says on some train images."""
    space = cell.of_weights
    seen = seen_layers(plan, cell, base, data, IMAGES)
    known = weight_criteria()
    return [space.best(weigh(seen, space.sites, known[name]), name) for name in cell.criteria]


def seen_layers(plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset, images: int) -> Seen:
    """The layers of a cell of weights on the train images that criteria look at, the same for all cells of a base network."""
    part = part_of(data.train, min(images, len(data.train)), plan.seed("predictor images", cell.base))
    layers = [layer for group in cell.of_weights.sites for layer, _ in group.layers]
    return Seen(base, layers, part, plan.spec.retrain.lr)


def stored_masks(plan: Plan, cell: PlannedCell, store: Store) -> tuple[int, ...]:
    """The names of the chosen masks that the store keeps; the cell's space knows them from now on."""
    found = (read_mask(text) for text in store.searched(plan.digest, cell.index).values())
    return cell.of_weights.learn(mask for mask in found if isinstance(mask, WeightMask))
