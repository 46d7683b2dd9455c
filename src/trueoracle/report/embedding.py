"""The masks behind a cell's pictures, as compact JSON for the page's script.

Which units a mask prunes is a string: site after site, a bit a unit, lowest unit first, four bits a hexadecimal digit.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from trueoracle.report.curves import Panel
from trueoracle.report.drawing import Scale
from trueoracle.report.findings import CellFindings
from trueoracle.report.scatter import Scatter

# Characters that all cells of a page may take together: a mail attachment stays one.
_UNITS_CHARACTERS = 6_000_000
_CURVES_CHARACTERS = 3_000_000
_LONGEST_RANK = 24  # digits shown of a rank


def masks_json(cell: CellFindings, cells: int, scatter: Scatter, loss: Panel, result: Panel) -> str:
    """The masks of one of `cells` cells, with the scales of its pictures.

    Units or curves are left out (null) where those of all the cells would be too many for one page, and so are single
    weights.
    """
    facts: dict[str, Any] = {
        "masks": [_short(rank) for rank in cell.ranks],
        "oracle": cell.oracle,
        "x": _rounded(cell.x),
        "y": _rounded(cell.y),
        "repeats": [_rounded(row[np.isfinite(row)]) for row in cell.masks.y_nR]
        if cell.masks.y_nR.shape[1] > 1
        else None,
        "sites": [[site, units, units - kept] for site, (units, kept) in cell.record.sites.items()],
        "of": "weights" if cell.record.of_weights else "units",
        "pruned": _pruned(cell, _UNITS_CHARACTERS // cells),
        "frame": {"x": _frame(scatter.x), "y": _frame(scatter.y)},
        "curves": _curves(cell, _CURVES_CHARACTERS // cells, loss, result),
    }
    return json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c")


def _pruned(cell: CellFindings, most: int) -> list[str] | None:
    units = {site: count for site, (count, _) in cell.record.sites.items()}
    digits = sum(-(-count // 4) for count in units.values())
    if cell.masks.pruned is None or cell.record.of_weights or digits * len(cell.masks.pruned) > most:
        return None
    return [_bits(json.loads(pruned), units) for pruned in cell.masks.pruned]


def _bits(pruned: dict[str, list[int]], units: dict[str, int]) -> str:
    return "".join(_digits(pruned.get(site, ()), count) for site, count in units.items())


def _digits(pruned: Iterable[int], units: int) -> str:
    values = [0] * -(-units // 4)
    for unit in pruned:
        values[unit // 4] |= 1 << unit % 4
    return "".join(f"{value:x}" for value in values)


def _curves(cell: CellFindings, most: int, loss: Panel, result: Panel) -> list[dict[str, Any]] | None:
    found = cell.curves
    if 7 * (found.train_loss_nE1.size + found.result_nE.size) > most:
        return None
    return [
        {"epochs": found.epochs_E1.tolist(), "across": _frame(loss.across), "up": _frame(loss.up), "values": _rows(found.train_loss_nE1)},
        {"epochs": found.epochs_E1[1:].tolist(), "across": _frame(result.across), "up": _frame(result.up), "values": _rows(found.result_nE)},
    ]  # fmt: skip


def _frame(scale: Scale) -> dict[str, Any]:
    return {"low": scale.low, "high": scale.high, "start": scale.start, "end": scale.end, "log": scale.log}


def _rows(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float]]:
    return [_rounded(row, 4) for row in values]


def _rounded(values: ArrayLike, digits: int = 6) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in np.asarray(values).tolist()]


def _short(rank: int) -> str:
    """A rank, in the middle of a long one an ellipsis."""
    text = str(rank)
    return text if len(text) <= _LONGEST_RANK else f"{text[:8]}…{text[-8:]} ({len(text)} digits)"
