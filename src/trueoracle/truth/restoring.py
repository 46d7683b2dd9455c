"""A study of the table back into a store, where every command finds it: to analyse, report, export, or to go on with."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trueoracle.store import BaseRecord, CellRecord, MaskRecord, Store, StudyRecord
from trueoracle.truth.columns import FILES, KEY, Rows, records
from trueoracle.truth.reading import TruthTable
from trueoracle.words.progress import Progress
from trueoracle.words.spec import StudySpec, case_name, plain_name
from trueoracle.words.trial import SPLITS, Figures, Outcome, SplitAnswers, Trial

if TYPE_CHECKING:
    import pandas as pd

_AT_ONCE = 2000
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def restore(
    table: TruthTable,
    study: str,
    store: Store,
    progress: Progress,
    *,
    cells: Collection[str] | None = None,
    scores: "pd.DataFrame | None" = None,
    curves: bool = True,
) -> str:
    """Put a study, all of it or some `cells`, into a store that does not have it; its digest there.

    `scores` (`base, cell, mask` and a column a score) are kept beside the table's own. Curves come rounded to 32 bits, as the table has them, or not
    at all.
    """
    facts = table.facts(study)
    spec = facts.parsed
    store.add_study(StudyRecord(digest=facts.digest, name=spec.name, spec=json.dumps(spec.facts())))
    for row in records(table.frame(study, "networks")):
        store.put_base(facts.digest, _base(row))
    cells_kept = [
        one
        for one in _cells(table, study, spec)
        if cells is None or plain_name(one.name, one.base, spec.base_networks) in cells
    ]
    store.put_cells(facts.digest, cells_kept)
    versions = facts.runs[0].versions if facts.runs else {}
    run = store.begin_run(facts.digest, 1, versions)
    parts = _Parts(table, study, scores, curves)
    with progress.task(f"restoring {study}", len(cells_kept), "cells") as advance:
        for cell in cells_kept:
            digits = len(str(cell.space - 1))
            key = cell.base, plain_name(cell.name, cell.base, spec.base_networks)
            store.put_masks(facts.digest, parts.masks(key, cell), digits)
            trials = list(parts.trials(key, cell))
            for first in range(0, len(trials), _AT_ONCE):
                store.put_trials(facts.digest, trials[first : first + _AT_ONCE], digits, run)
            advance(1)
    return facts.digest


def _base(row: Mapping[str, Any]) -> BaseRecord:
    facts = {name: _plain_value(row[name]) for name in BaseRecord.__slots__ if name != "answers"}
    answers = {split: row[f"{split}_right"] for split in SPLITS}
    return BaseRecord(
        **facts, answers={split: SplitAnswers.of(right) for split, right in answers.items() if right is not None}
    )


def _cells(table: TruthTable, study: str, spec: StudySpec) -> Iterator[CellRecord]:
    """In the order of the study: by base network, then as the specification has them."""
    place = {cell.name: number for number, cell in enumerate(spec.cells)}
    rows = sorted(records(table.frame(study, "cells")), key=lambda row: (row["base"], place[row["cell"]]))
    for row in rows:
        sizes = zip(row["units"].tolist(), row["kept"].tolist(), strict=True)
        yield CellRecord(
            index=row["base"] * len(spec.cells) + place[row["cell"]],
            base=row["base"],
            name=case_name(row["cell"], row["base"], spec.base_networks),
            sites=dict(zip(row["sites"], sizes, strict=True)),
            space=int(row["space"]),
            masks=row["masks"],
            parameters=row["parameters"],
            macs=row["macs"],
        )


_Key = tuple[int, str]


class _Parts:
    """The table's files of a study, by cell."""

    def __init__(self, table: TruthTable, study: str, scores: "pd.DataFrame | None", curves: bool) -> None:
        masks = table.frame(study, "masks").merge(table.frame(study, "scores"), on=["study", *KEY["masks"]])
        if scores is not None:
            masks = masks.merge(scores, on=KEY["masks"], how="left")
        self._masks = _by_cell(masks)
        self._trials = _by_cell(table.frame(study, "trials"))
        held = table.facts(study).files
        self._curves = _by_cell(table.frame(study, "curves")) if curves and "curves" in held else {}
        self._answers = _by_cell(table.frame(study, "answers")) if "answers" in held else {}
        self._scores = [name for name in masks.columns if name not in {column.name for column in FILES["masks"]}]

    def masks(self, key: _Key, cell: CellRecord) -> Iterator[MaskRecord]:
        for row in _rows(self._masks.get(key)):
            yield MaskRecord(
                cell=cell.index,
                rank=row["mask"],
                pruned=_pruned(row["kept"], cell),
                loss=row["pruned_train_loss"],
                accuracy=row["pruned_train_accuracy"],
                standard_error=row["standard_error"],
                scores={name: row[name] for name in self._scores if not np.isnan(row[name])},
                searched=row["searched"],
                weight=_plain_value(row["sampling_weight"]),
            )

    def trials(self, key: _Key, cell: CellRecord) -> Iterator[Trial]:
        curves: dict[_Key, dict[int, Figures]] = {}
        for row in _rows(self._curves.get(key)):
            curves.setdefault((row["mask"], row["repeat"]), {})[row["epoch"]] = _figures(row, "")
        answers: dict[_Key, dict[str, SplitAnswers]] = {}
        for row in _rows(self._answers.get(key)):
            answers.setdefault((row["mask"], row["repeat"]), {})[row["split"]] = SplitAnswers.of(row["right"])
        for row in _rows(self._trials.get(key)):
            own = row["mask"], row["repeat"]
            outcome = _OUTCOMES[row["outcome"]]
            yield Trial(
                cell=cell.index,
                mask=row["mask"],
                repeat=row["repeat"],
                seed=row["seed"],
                outcome=outcome,
                curve=tuple(curves.get(own, {}).values()),
                every=next(iter(curves.get(own, ())), 1),
                final=_figures(row, "final_") if outcome is Outcome.FINISHED else None,
                seconds=row["seconds"],
                answers=answers.get(own, {}),
            )


def _by_cell(frame: "pd.DataFrame") -> "dict[_Key, pd.DataFrame]":
    grouped = cast("Iterable[tuple[_Key, pd.DataFrame]]", frame.groupby(["base", "cell"], sort=False))
    return {(int(base), cell): part for (base, cell), part in grouped}


def _rows(part: "pd.DataFrame | None") -> Rows:
    return [] if part is None else records(part)


def _figures(row: Mapping[str, Any], prefix: str) -> Figures:
    return Figures(**{name: _plain_value(row[prefix + name]) for name in Figures.__slots__})


def _plain_value(value: Any) -> Any:
    """None for what a frame has as not a number."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _pruned(kept: Any, cell: CellRecord) -> str:
    """A mask as every table of a store names it."""
    gone = {
        site: sorted(set(range(units)) - set(map(int, stay)))
        for (site, (units, _)), stay in zip(cell.sites.items(), kept, strict=True)
    }
    return json.dumps(gone)
