"""Trials that another study of the store has already, of the same masks by the same recipe and seeds: taken over.

Two studies find the same where they say the same but for which masks they retrain and how often, derive their seeds
from the same text (`seeds_of`), and prune a base network of the same weights.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trueoracle.data import Dataset
from trueoracle.store import BaseRecord, Store, StudyRecord
from trueoracle.study.conduct import cell_records, record_of
from trueoracle.study.plan import Plan
from trueoracle.words.spec import StudySpec
from trueoracle.words.trial import SPLITS

# What may differ between studies whose trials are the same.
_OF_NO_TRIAL = {"name", "description", "scale", "cells", "repeats", "base_networks", "base_weights", "train", "seeds_of",
                "early", "loss_after_steps", "recalibration_images"}  # fmt: skip
_OF_NO_BASE = {*_OF_NO_TRIAL, "retrain", "removal", "oracle_images"} - {"train"}


def reuse(plan: Plan, data: Dataset, store: Store, base: BaseRecord | None = None) -> int:
    """Keep the study, and in it what others of the store know of its one base network; how many trials that are.

    `base` is the base network where it is known, else one is looked for; without one nothing is taken over.
    """
    store.add_study(record_of(plan))
    own = store.base(plan.digest)
    if own is None:
        own = base or known_base(plan, data, store)
        if own is None:
            return 0
        store.put_base(plan.digest, own)
    store.put_cells(plan.digest, cell_records(plan))
    cells = {
        tuple(record.sites.items()): cell for record, cell in zip(store.cells(plan.digest), plan.cells, strict=True)
    }
    copied = 0
    for record, _ in _others(plan, store, _OF_NO_TRIAL):
        theirs = store.base(record.digest)
        if theirs is None or (theirs.weights, theirs.data_fingerprint) != (own.weights, own.data_fingerprint):
            continue
        for other in store.cells(record.digest):
            cell = cells.get(tuple(other.sites.items()))
            if cell is not None and other.base == 0:
                copied += store.adopt(
                    plan.digest, cell.index, (record.digest, other.index), cell.ranks, plan.spec.repeats, cell.digits
                )
    return copied


def known_base(plan: Plan, data: Dataset, store: Store) -> BaseRecord | None:
    """The base network that another study trained by the same recipe from the same seeds, on the same data."""
    if plan.spec.base_weights is not None or plan.spec.train is None:
        return None
    for record, _ in _others(plan, store, _OF_NO_BASE):
        found = store.base(record.digest)
        if found is not None and found.data_fingerprint == data.fingerprint:
            answers = {split: given for split in SPLITS if (given := store.base_answers(record.digest, 0, split))}
            return replace(found, answers=answers)
    return None


def _others(plan: Plan, store: Store, but_for: set[str]) -> Iterator[tuple[StudyRecord, StudySpec]]:
    """The other studies of the same seeds that say the same but for these keys."""
    wanted = _facts(plan.spec, but_for)
    for record in store.studies():
        if record.digest == plan.digest:
            continue
        spec = record.parsed
        if (spec.seeds_of or record.digest) == plan.seed_origin and _facts(spec, but_for) == wanted:
            yield record, spec


def _facts(spec: StudySpec, but_for: set[str]) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude=but_for)
