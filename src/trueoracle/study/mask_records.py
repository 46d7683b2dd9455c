"""What is stored of a mask once its pruned loss is known; and the masks that criteria of weights give."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from torch import nn

from trueoracle.criteria import Seen, chance, importances, score, thrown_away, weigh, weight_criteria
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.oracle import PrunedLosses, evaluator
from trueoracle.search import Found
from trueoracle.space import WeightSpace
from trueoracle.store import MaskRecord, Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.survey import part_of, survey
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


def given_by_criteria(
    plan: Plan,
    cell: PlannedCell,
    base: nn.Module,
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
) -> PlannedCell:
    """The cell with the masks that its criteria give: from the store, else made now, evaluated and stored together."""
    space = cell.space
    assert isinstance(space, WeightSpace), "criteria of weights give masks of weights"
    kept = stored_masks(plan, cell, store)
    if len(kept) < len(cell.criteria):
        kept = space.learn(criterion_masks(plan, cell, base, data))
        images = part_of(data.train, plan.spec.oracle_images, plan.seed("oracle images", cell.base))
        path, judge = evaluator(base, space, plan.shape), mask_scores(plan, cell, base)
        store.put_masks(
            plan.digest,
            [
                record
                for found in survey(
                    path, sorted(kept), images, executor, progress,
                    what=f"{cell.name}, by criteria", population=len(data.train),
                )
                for record in mask_records(cell, found.ranks, found, judge, chosen={*kept})
            ],
            cell.digits,
        )  # fmt: skip
    return replace(cell, found=tuple(kept))


def criterion_masks(plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset) -> list[WeightMask]:
    """For each criterion of the cell the mask that keeps what it holds most important, as it says on some train images."""
    space = cell.space
    assert isinstance(space, WeightSpace), "criteria of weights give masks of weights"
    seen = seen_layers(plan, cell, base, data, IMAGES)
    known = weight_criteria()
    return [space.best(weigh(seen, space.sites, known[name]), name) for name in cell.criteria]


def seen_layers(plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset, images: int) -> Seen:
    """The layers of a cell of weights on the train images that criteria look at, the same for all cells of a base network."""
    assert isinstance(cell.space, WeightSpace), "the cell prunes units"
    part = part_of(data.train, min(images, len(data.train)), plan.seed("predictor images", cell.base))
    layers = [layer for group in cell.space.sites for layer, _ in group.layers]
    return Seen(base, layers, part, plan.spec.retrain.lr)


def stored_masks(plan: Plan, cell: PlannedCell, store: Store) -> tuple[int, ...]:
    """The names of the masks that criteria gave and the store keeps; the cell's space knows them from now on."""
    assert isinstance(cell.space, WeightSpace), "the cell prunes units"
    found = (read_mask(text) for text in store.searched(plan.digest, cell.index).values())
    return cell.space.learn(mask for mask in found if isinstance(mask, WeightMask))
