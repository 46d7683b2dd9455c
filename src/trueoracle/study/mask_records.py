"""What is stored of a mask once its pruned loss is known."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from torch import nn

from trueoracle.criteria import Seen, chance, importances, score, thrown_away, weigh, weight_criteria
from trueoracle.oracle import PrunedLosses
from trueoracle.search import Found
from trueoracle.space import WeightSpace
from trueoracle.store import MaskRecord
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.words.mask import AnyMask, Mask, WeightMask

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
