"""Masks of weights that are chosen: those that criteria give, and the one that a search finds row by row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trueoracle.criteria import Seen, weigh, weight_criteria
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.oracle import Evaluator, accumulate
from trueoracle.search import row_by_row
from trueoracle.store import Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.survey import part_of
from trueoracle.words.examples import Examples
from trueoracle.words.mask import WeightMask, read_mask
from trueoracle.words.progress import Progress
from trueoracle.words.scores import IMAGES


def masks_to_choose(cell: PlannedCell) -> int:
    """How many masks of a cell of weights are chosen."""
    return len(cell.criteria) + (cell.search is not None)


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


def searched_mask(
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
