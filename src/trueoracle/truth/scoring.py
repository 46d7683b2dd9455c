"""A number a mask from outside, judged by measured truth beside all that is known of the masks already."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from trueoracle.analysis import Better, Leaderboard, compare
from trueoracle.store import Store
from trueoracle.truth.columns import KEY
from trueoracle.truth.reading import TruthTable
from trueoracle.truth.restoring import restore
from trueoracle.words.errors import TableError, unknown
from trueoracle.words.progress import Progress, Quiet

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT_RATIOS = ("0.3", "0.5", "0.7")


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Cells that a predictor is judged on together."""

    name: str
    cells: tuple[str, ...]


def splits(table: TruthTable, study: str) -> tuple[Split, ...]:
    """The cells to develop a predictor on, and those to be judged on once: the ratios 0.3, 0.5 and 0.7 are held out.

    Whoever looks at the held-out figures while choosing has no held-out figures any more.
    """
    cells = table.cells(study)
    held = tuple(cell for cell in cells if cell.rpartition("-")[2] in HELD_OUT_RATIOS)
    rest = tuple(cell for cell in cells if cell not in held)
    return tuple(
        one for one in (Split(name="development", cells=rest), Split(name="held-out", cells=held)) if one.cells
    )


def score(
    values: "pd.DataFrame",
    x: str,
    better: str,
    *,
    study: str = "digits",
    y: str = "final_test_accuracy",
    k: int = 5,
    split: str | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Leaderboard]:
    """Judge the column `x` of `values`, a row a mask with `base, cell, mask`, on every split of a study's cells (or one `split`).

    `better` says which of its values promise more: `lower` or `higher`; there is no default, as half of all mistakes with foreign
    predictors are of sign. Returns split -> leaderboard, in which `x` stands among the predictors that the table holds. Cells that
    `values` do not touch are left out; in those that they do, every mask must have a number. `TableError` for anything else.
    """
    from trueoracle.truth.reading import PACKAGED

    table = TruthTable(PACKAGED if folder is None else Path(folder))
    if better not in ("lower", "higher"):
        raise TableError(f"`better` must be lower or higher, but got `{better}`")
    given = _checked(values, x, table, study)
    known = splits(table, study)
    chosen = [one for one in known if split is None or one.name == split]
    if not chosen:
        raise TableError(unknown("split", str(split), [one.name for one in known]))
    touched = set(given["cell"])
    found = {}
    for one in chosen:
        cells = [cell for cell in one.cells if cell in touched]
        if cells:
            found[one.name] = _board(table, study, given, cells, x, Better[better.upper()], y, k, progress or Quiet())
    if not found:
        raise TableError(f"no mask of the split `{split}` has a `{x}`: its cells are {', '.join(chosen[0].cells)}")
    return found


def _board(
    table: TruthTable,
    study: str,
    values: "pd.DataFrame",
    cells: list[str],
    x: str,
    better: Better,
    y: str,
    k: int,
    progress: Progress,
) -> Leaderboard:
    with TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/split.db", create=True)
        digest = restore(table, study, store, progress, cells=cells, scores=values, curves=False)
        return compare(store, [digest], None, y, k, progress, {x: better})


def _checked(values: "pd.DataFrame", x: str, table: TruthTable, study: str) -> "pd.DataFrame":
    """The key and `x`, checked against the masks of the cells that they name."""
    import pandas as pd

    if x in (*KEY["masks"], "study"):
        raise TableError(f"`{x}` names a mask: the predictor must be another column")
    for column in (*KEY["masks"], x):
        if column not in values.columns:
            raise TableError(unknown("column", column, map(str, values.columns)))
    if x in table.frame(study, "scores").columns or x in table.frame(study, "trials").columns:
        raise TableError(f"`{x}` is a column of the table already: give the predictor a name of its own")
    given = values[[*KEY["masks"], x]].copy()
    given[x] = pd.to_numeric(given[x], errors="coerce").astype(float)
    masks = table.frame(study, "masks")[KEY["masks"]]
    given["mask"] = pd.Series([_rank(value) for value in given["mask"]], given.index, masks["mask"].dtype)
    if given.duplicated(KEY["masks"]).any():
        raise TableError("a mask stands twice: `base`, `cell` and `mask` must name each row")
    foreign = sorted(set(given["cell"]) - set(masks["cell"]))
    if foreign:
        raise TableError(unknown("cell", foreign[0], set(masks["cell"])))
    asked = masks[masks["cell"].isin(set(given["cell"]))]
    both = asked.merge(given, on=KEY["masks"], how="outer", indicator=True)
    if (both["_merge"] == "right_only").any():
        row = both[both["_merge"] == "right_only"].iloc[0]
        raise TableError(f"mask {row['mask']} of `{row['cell']}` and base network {row['base']} is none of `{study}`")
    missing = both[~np.isfinite(both[x])]
    if len(missing):
        row = missing.iloc[0]
        raise TableError(
            f"`{x}` is missing or not a finite number for {len(missing)} of {len(asked)} masks, such as mask {row['mask']} of "
            f"`{row['cell']}` and base network {row['base']}"
        )
    return given


def _rank(value: object) -> int:
    """A mask's rank out of a file, where large ones may be text; `TableError` for anything that is none."""
    text = str(value).removesuffix(".0")  # as a column of numbers reads that lacks one
    if not text.isdecimal():
        raise TableError(f"`mask` must be a rank, a whole number from 0 on, but got `{value}`")
    return int(text)
