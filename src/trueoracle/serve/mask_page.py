"""What a page shows of one mask: its repeats, their curves, and the mask drawn on the network."""

import json
from typing import Any

from trueoracle.report.mask_picture import mask_picture
from trueoracle.report.repeats import repeat_curves
from trueoracle.serve.summary import Summary
from trueoracle.store import SEARCHED, WEIGHT, CellRecord, Store
from trueoracle.store.browse import curves_of_mask, layers_of_base, scores_of_mask, trials_of_mask
from trueoracle.words.errors import StoreError


def mask_facts(store: Store, summary: Summary, cell: CellRecord, mask: int) -> dict[str, Any]:
    """All of it, by the names that the template knows; `StoreError` where no trial of the mask is kept."""
    study = summary.record.digest
    rows = trials_of_mask(store, study, cell.index, mask)
    if not rows:
        raise StoreError(f"no trial of mask {mask} of {cell.name} is kept")
    pruned: dict[str, list[int]] = json.loads(rows[0].pruned)
    points = curves_of_mask(store, study, cell.index, mask)
    return {
        "mask": mask,
        "rows": rows,
        "pruned": pruned,
        "scores": {
            name: value
            for name, value in scores_of_mask(store, study, cell.index, mask).items()
            if name not in (SEARCHED, WEIGHT)
        },
        "curves": repeat_curves(f"mask {mask} of {cell.name}", rows[0].pruned_train_loss, points) if points else None,
        "picture": mask_picture(
            f"mask {mask} of {cell.name}", layers_of_base(store, study, cell.base), cell.sites, pruned
        ),
    }
