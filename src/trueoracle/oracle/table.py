"""Pruned losses as Arrow tables, for Parquet files with a row a mask: whole spaces without a Python object a mask."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trueoracle.oracle.accumulate import PrunedLosses
from trueoracle.space import MaskSpace, SiteChoice

# Sites with so many choices at most have them written out once and looked up.
_MOST_LISTED = 100_000
_FITS_64_BITS = 2**63


def loss_table(losses: PrunedLosses, space: MaskSpace) -> pa.Table:
    """Columns `mask, pruned, pruned_train_loss, pruned_train_accuracy`, and `standard_error` for a part of the split.

    Ranks are integers, or padded decimal text in a space beyond 64 bits.
    """
    columns = {
        "mask": _rank_column(losses.ranks, space),
        "pruned": pruned_column(losses.ranks, space),
        "pruned_train_loss": pa.array(losses.loss_M),
        "pruned_train_accuracy": pa.array(losses.accuracy_M),
    }
    if losses.standard_error_M.any():
        columns["standard_error"] = pa.array(losses.standard_error_M)
    return pa.table(columns)


def pruned_column(ranks: Sequence[int], space: MaskSpace) -> pa.Array:
    """`Mask.pruned_json` of every rank."""
    if space.count >= _FITS_64_BITS or max(site.count for site in space.sites) > _MOST_LISTED:
        return pa.array([space.unrank(rank).pruned_json for rank in ranks], pa.string())
    rest = np.asarray(ranks, dtype=np.int64)
    parts: list[pa.Array] = []
    for site in reversed(space.sites):
        rest, digit = np.divmod(rest, site.count)
        parts.append(_listed(site).take(pa.array(digit)))
    joined = pc.binary_join_element_wise(*reversed(parts), ", ")
    return pc.binary_join_element_wise("{", joined, "}", "")


def _rank_column(ranks: Sequence[int], space: MaskSpace) -> pa.Array:
    if space.count <= _FITS_64_BITS:
        numbers: NDArray[np.int64] = np.asarray(ranks, dtype=np.int64)
        return pa.array(numbers)
    digits = len(str(space.count - 1))
    return pa.array([str(rank).zfill(digits) for rank in ranks])


def _listed(site: SiteChoice) -> pa.Array:
    """What the site contributes to the JSON, for each of its choices by rank."""
    return pa.array([mask.pruned_json.removeprefix("{").removesuffix("}") for mask in MaskSpace((site,))])
