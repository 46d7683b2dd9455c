"""Trials of the table made again: what is published is what the seeds give."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trueoracle.data import Dataset, load_dataset
from trueoracle.fleet import Backend
from trueoracle.nets import weights_from_bytes
from trueoracle.study import Plan, PlannedCell, plan, retrained, study_data
from trueoracle.truth.columns import Rows, records
from trueoracle.truth.reading import TruthTable
from trueoracle.words.errors import TableError
from trueoracle.words.progress import Progress
from trueoracle.words.spec import case_name
from trueoracle.words.trial import Figures, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Remade:
    """One trial made again; `largest` is the largest difference of its final losses (nats), 0 where all are the same to the bit."""

    cell: str
    base: int
    mask: int
    repeat: int
    same: bool
    largest: float


def verify(
    table: TruthTable,
    study: str,
    progress: Progress,
    *,
    trials: int = 20,
    seed: int = 0,
    data_dir: Path | None,
    backend: Backend = "auto",
) -> list[Remade]:
    """Check a study's files against the manifest, then retrain so many of its finished trials, drawn at random, from its base networks.

    `TableError` where a file is not as published, or the data at hand is not the data that the study ran on.
    """
    if trials < 1:
        raise TableError(f"`trials` must be at least 1, but got {trials}")
    table.check(study)
    spec = table.facts(study).parsed
    planned = plan(spec)
    if planned.digest != table.facts(study).digest:
        raise TableError(f"`{study}` is another study in this version of trueoracle: its digest differs")
    data = study_data(planned, load_dataset(spec.data, data_dir, torch.device("cpu"), progress))
    networks = {row["base"]: row for row in records(table.frame(study, "networks"))}
    known = {row["data_fingerprint"] for row in networks.values()}
    if known != {data.fingerprint}:
        raise TableError(f"the data `{spec.data}` at hand is not what `{study}` ran on: its fingerprint differs")
    finished = table.frame(study).query("outcome == @ended", local_dict={"ended": Outcome.FINISHED.value})
    chosen = finished.sample(min(trials, len(finished)), random_state=seed).sort_values(["base", "cell", "mask"])
    with progress.task(f"retraining {study}", len(chosen), "trials") as advance:
        return list(_again(planned, data, networks, records(chosen), backend, advance, progress))


def _again(
    planned: Plan,
    data: Dataset,
    networks: dict[int, Any],
    rows: Rows,
    backend: Backend,
    advance: Any,
    progress: Progress,
) -> Iterator[Remade]:
    cells = {(cell.base, cell.name): cell for cell in planned.cells}
    for row in rows:
        base = row["base"]
        net = planned.nets[base]
        weights_from_bytes(net, networks[base]["weights"], "of the table's base network")
        cell: PlannedCell = cells[base, case_name(row["cell"], base, planned.spec.base_networks)]
        mask = cell.space.unrank(row["mask"])
        _, final = retrained(planned, net, cell, mask, row["repeat"], data, backend=backend, progress=progress)
        differences = [_difference(getattr(final, name), row[f"final_{name}"]) for name in Figures.__slots__]
        advance(1)
        yield Remade(
            cell=row["cell"],
            base=base,
            mask=row["mask"],
            repeat=row["repeat"],
            same=not any(differences),
            largest=max(differences),
        )


def _difference(now: float | None, then: float) -> float:
    """0 where both are the same, or both are absent."""
    if now is None or np.isnan(then):
        return 0.0 if now is None and np.isnan(then) else float("inf")
    return abs(now - then)
