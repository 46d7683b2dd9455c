"""Masks of weights that are chosen: those that criteria give, and those that a search finds, row by row or by ratios."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trueoracle.criteria import Seen, weigh, weight_criteria
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.oracle import Evaluator, accumulate
from trueoracle.search import Budget, Hunt, row_by_row
from trueoracle.store import Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.ratios import RatioJudge, search_ratios
from trueoracle.study.survey import part_of
from trueoracle.words.errors import SpecError
from trueoracle.words.examples import Examples
from trueoracle.words.mask import WeightMask, read_mask
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES


def masks_to_choose(cell: PlannedCell) -> int:
    """How many masks of a cell of weights are chosen."""
    return len(cell.criteria) + (0 if cell.search is None else cell.search.keep)


def criterion_masks(plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset) -> list[WeightMask]:
    """For each criterion of the cell the mask that keeps what it holds most important, as it says on some train images."""
    space = cell.of_weights
    seen = seen_layers(plan, cell, base, data, IMAGES)
    known = weight_criteria()
    return [space.best(weigh(seen, space.sites, known[name]), name) for name in cell.criteria]


def seen_layers(plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset, images: int) -> Seen:
    """The layers of a cell of weights on the train images that criteria look at, the same for all cells of a base network."""
    part = seen_images(plan, cell, data, images)
    layers = [layer for group in cell.of_weights.sites for layer, _ in group.layers]
    return Seen(base, layers, part, plan.spec.retrain.lr)


def seen_images(plan: Plan, cell: PlannedCell, data: Dataset, images: int) -> Examples:
    """The train images that chosen masks are chosen on."""
    return part_of(data.train, min(images, len(data.train)), plan.seed("predictor images", cell.base))


def masks_of_ratios(
    plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset, progress: Progress
) -> list[WeightMask]:
    """The smallest weights of the cell's groups at the ratios that the search finds best, instead of at the cell's.

    They are searched on the train images that criteria look at. `SpecError` where it finds fewer masks than it is to keep.
    """
    assert cell.search is not None
    groups = {group.site: [layer for layer, _ in group.layers] for group in cell.of_weights.sites}
    judge = RatioJudge(net=base, images=seen_images(plan, cell, data, IMAGES), groups=groups)
    hunt = Hunt(
        method=cell.search.method,
        budget=Budget(evaluations=cell.search.evaluations),
        seed=plan.seed(f"search of cell {cell.name}", cell.base),
    )
    found = search_ratios(judge, hunt, progress)
    best = {mask.rank: mask for mask in (judge.mask(found.ranks[place]) for place in found.order)}
    if len(best) < cell.search.keep:
        raise SpecError(
            f"the search of cell `{cell.name}` found {len(best)} masks, but `keep` is {cell.search.keep}: give it more "
            "`evaluations`"
        )
    return [replace(mask, criterion=hunt.method) for mask in list(best.values())[: cell.search.keep]]


def mask_of_rows(
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


def stored_masks(plan: Plan, cell: PlannedCell, store: Store) -> tuple[int, ...]:
    """The names of the chosen masks that the store keeps; the cell's space knows them from now on."""
    found = (read_mask(text) for text in store.searched(plan.digest, cell.index).values())
    return cell.of_weights.learn(mask for mask in found if isinstance(mask, WeightMask))
