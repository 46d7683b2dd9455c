"""What a page shows of one mask: its repeats, their curves, and the mask drawn on the network."""

from typing import Any

from trueoracle.report.mask_picture import mask_picture, weights_picture
from trueoracle.report.repeats import repeat_curves
from trueoracle.serve.summary import Summary
from trueoracle.store import SEARCHED, WEIGHT, CellRecord, Store
from trueoracle.store.browse import curves_of_mask, layers_of_base, scores_of_mask, trials_of_mask
from trueoracle.words.errors import StoreError
from trueoracle.words.mask import WeightMask, read_mask


def mask_facts(store: Store, summary: Summary, cell: CellRecord, mask: int) -> dict[str, Any]:
    """All of it, by the names that the template knows; `StoreError` where no trial of the mask is kept."""
    study = summary.record.digest
    rows = trials_of_mask(store, study, cell.index, mask)
    if not rows:
        raise StoreError(f"no trial of mask {mask} of {cell.name} is kept")
    what, pruned = f"mask {mask} of {cell.name}", read_mask(rows[0].pruned)
    layers = layers_of_base(store, study, cell.base)
    points = curves_of_mask(store, study, cell.index, mask)
    return {
        "mask": mask,
        "rows": rows,
        "pruned": pruned if isinstance(pruned, dict) else {},
        "weights": pruned.kept_by_layer if isinstance(pruned, WeightMask) else {},
        "criterion": pruned.criterion if isinstance(pruned, WeightMask) else "",
        "scores": {
            name: value
            for name, value in scores_of_mask(store, study, cell.index, mask).items()
            if name not in (SEARCHED, WEIGHT)
        },
        "curves": repeat_curves(what, rows[0].pruned_train_loss, points, of_noise=summary.spec.tells_noise)
        if points
        else None,
        "picture": weights_picture(what, layers, pruned.kept_by_layer)
        if isinstance(pruned, WeightMask)
        else mask_picture(what, layers, cell.sites, pruned),
    }
