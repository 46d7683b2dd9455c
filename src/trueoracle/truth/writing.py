"""Studies out of a store into the public table's files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trueoracle.store import SEARCHED, WEIGHT, BaseRecord, CellRecord, Store
from trueoracle.truth.columns import FILES, KEY, Rows, records, schema
from trueoracle.words.errors import TableError
from trueoracle.words.progress import Progress
from trueoracle.words.spec import StudySpec, plain_name
from trueoracle.words.trial import SPLITS, Figures, Outcome, Trial

LARGEST = 2**63 - 1
_LOSSES = "_loss"


def write_study(store: Store, digest: str, spec: StudySpec, folder: Path, progress: Progress) -> dict[str, int]:
    """Write a study's files to `folder`, made for it; file -> rows. Trials that failed are left out: they are no results.

    Ranks beyond 64 bits are written as decimal text, padded so that text order is their order. `TableError` for a study with
    nothing retrained, or whose masks are of single weights.
    """
    if any(cell.weights for cell in spec.cells):
        raise TableError(f"the masks of `{spec.name}` prune single weights: the table holds masks of units")
    cells = store.cells(digest)
    largest = max(cell.space for cell in cells) - 1
    digits = len(str(largest)) if largest > LARGEST else 0
    rows: dict[str, Rows] = {file: [] for file in FILES}
    rows["networks"] = [_network(store, digest, base) for base in _bases(store, digest, spec)]
    scores: dict[str, None] = {}
    with progress.task(f"reading {spec.name}", len(cells), "cells") as advance:
        of_masks = dict(iter(store.mask_table(digest).groupby("cell", sort=False)))
        for cell in cells:
            trials = [one for one in store.whole_trials(digest, cell.index) if one.outcome is not Outcome.FAILED]
            scores |= dict.fromkeys(_add_cell(rows, store, digest, spec, cell, trials, of_masks.get(cell.name)))
            advance(1)
    if not rows["trials"]:
        raise TableError(f"nothing of `{spec.name}` is retrained yet: run the study")
    folder.mkdir()
    for file, of_file in rows.items():
        _write(folder / f"{file}.parquet", file, _ordered(of_file, file, spec.name), tuple(scores), digits)
    return {file: len(of_file) for file, of_file in rows.items()}


def _add_cell(
    rows: dict[str, Rows],
    store: Store,
    digest: str,
    spec: StudySpec,
    cell: CellRecord,
    trials: list[Trial],
    masks: "pd.DataFrame | None",
) -> list[str]:
    """Append what one cell holds; the names of its masks' scores."""
    name = plain_name(cell.name, cell.base, spec.base_networks)
    key = {"base": cell.base, "cell": name}
    units, kept = zip(*cell.sites.values(), strict=True)
    rows["cells"].append({**key, "sites": list(cell.sites), "units": units, "kept": kept, "space": str(cell.space),
                          "masks": cell.masks, "parameters": cell.parameters, "macs": cell.macs})  # fmt: skip
    for trial in trials:
        of_trial = {**key, "mask": trial.mask, "repeat": trial.repeat}
        rows["trials"].append({**of_trial, "seed": trial.seed, "outcome": trial.outcome.value,
                               **_final(trial.final), "seconds": trial.seconds})  # fmt: skip
        rows["curves"] += [{**of_trial, "epoch": epoch, **_figures(one)} for epoch, one in trial.points]
        rows["answers"] += [{**of_trial, "split": split, "right": one.right} for split, one in trial.answers.items()]
    if masks is None:
        return []
    errors = store.standard_errors(digest, cell.index)
    columns = list(masks.columns)
    scores = [name for name in columns[columns.index("pruned_train_accuracy") + 1 :] if name not in (SEARCHED, WEIGHT)]
    for row in records(masks):
        of_mask = {**key, "mask": row["mask"]}
        rows["masks"].append({**of_mask, "kept": kept_units(row["pruned"], cell), "standard_error": errors[row["mask"]],
                              "searched": row.get(SEARCHED, False), "sampling_weight": row.get(WEIGHT), "pruned_train_loss": row["pruned_train_loss"],
                              "pruned_train_accuracy": row["pruned_train_accuracy"]})  # fmt: skip
        rows["scores"].append({**of_mask, **{name: row[name] for name in scores}})
    return scores


def kept_units(pruned: str, cell: CellRecord) -> list[list[int]]:
    """The units that stay, a list a site, of a mask as its table names it."""
    gone = json.loads(pruned)
    return [
        [unit for unit in range(units) if unit not in set(gone.get(site, []))]
        for site, (units, _) in cell.sites.items()
    ]


def _bases(store: Store, digest: str, spec: StudySpec) -> Iterator[BaseRecord]:
    for number in range(spec.base_networks):
        if (base := store.base(digest, number)) is not None:
            yield base


def _network(store: Store, digest: str, base: BaseRecord) -> dict[str, Any]:
    answers = {f"{split}_right": store.base_answers(digest, base.base, split) for split in SPLITS}
    names = {column.name for column in FILES["networks"]} - {"study"} - set(answers)
    right = {name: None if given is None else given.right for name, given in answers.items()}
    return {**{name: getattr(base, name) for name in names}, **right}


def _figures(figures: Figures) -> dict[str, float | None]:
    return {name: getattr(figures, name) for name in Figures.__slots__}


def _final(figures: Figures | None) -> dict[str, float | None]:
    return {} if figures is None else {f"final_{name}": value for name, value in _figures(figures).items()}


def _ordered(rows: Rows, file: str, study: str) -> Rows:
    """In the order of the key, so that neighbours are alike, and what is sought lies together."""
    return sorted(({"study": study, **row} for row in rows), key=lambda row: [row[name] for name in KEY[file]])


def _write(path: Path, file: str, rows: Rows, scores: tuple[str, ...], digits: int) -> None:
    """With `digits`, ranks are text of so many."""
    if digits and "mask" in KEY[file]:
        rows = [{**row, "mask": str(row["mask"]).zfill(digits)} for row in rows]
    found = pa.Table.from_pylist(
        rows, schema=schema(file, scores if file == "scores" else (), ranks_as_text=digits > 0)
    )
    # losses rarely repeat: their bytes, each place by itself, shrink better than any dictionary
    losses = [
        name for name in found.column_names if pa.types.is_floating(found.schema.field(name).type) and _LOSSES in name
    ]
    others = [name for name in found.column_names if name not in losses]
    pq.write_table(found, path, compression="zstd", compression_level=12, use_dictionary=others,
                   column_encoding=dict.fromkeys(losses, "BYTE_STREAM_SPLIT"))  # fmt: skip
