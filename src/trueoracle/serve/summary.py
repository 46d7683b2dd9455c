"""How far the studies of a store are, remembered until the store knows more."""

from dataclasses import dataclass
from threading import Lock
from time import time

from trueoracle.store import CellRecord, RunRecord, Status, Store, StudyRecord
from trueoracle.store.browse import evaluated_masks, last_stored, outcomes_by_cell, stamp
from trueoracle.words.spec import StudySpec
from trueoracle.words.trial import Outcome


@dataclass(frozen=True, kw_only=True)
class CellProgress:
    """How far a cell is; `planned` counts its trials."""

    record: CellRecord
    evaluated: int
    finished: int
    diverged: int
    failed: int
    planned: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How far a study is, as of `stamp`; `last` is when its last trial was stored, in seconds since 1970."""

    record: StudyRecord
    spec: StudySpec
    stamp: str
    status: Status
    cells: tuple[CellProgress, ...]
    runs: tuple[RunRecord, ...]
    last: float | None

    @property
    def key(self) -> str:
        """What the study is called in addresses."""
        return self.record.digest[:12]

    @property
    def ago(self) -> float | None:
        """Seconds since its last trial was stored."""
        return None if self.last is None else max(0.0, time() - self.last)

    @property
    def bases(self) -> int:
        """How many base networks it has."""
        return self.spec.base_networks


class Summaries:
    """The summaries of a store's studies."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Summary] = {}
        self._locks: dict[str, Lock] = {}

    def of(self, record: StudyRecord) -> Summary:
        """That of a study, as new as the store is; those who ask for one at a time wait for each other."""
        with self._locks.setdefault(record.digest, Lock()):
            now = stamp(self._store, record.digest)
            known = self._known.get(record.digest)
            if known is None or known.stamp != now:
                known = _summary(self._store, record, now)
                self._known[record.digest] = known
            return known


def _summary(store: Store, record: StudyRecord, now: str) -> Summary:
    spec = record.parsed
    cells, evaluated, outcomes = (
        store.cells(record.digest),
        evaluated_masks(store, record.digest),
        outcomes_by_cell(store, record.digest),
    )
    progress = tuple(
        CellProgress(
            record=cell,
            evaluated=evaluated.get(cell.index, 0),
            finished=outcomes.get(cell.index, {}).get(Outcome.FINISHED, 0),
            diverged=outcomes.get(cell.index, {}).get(Outcome.DIVERGED, 0),
            failed=outcomes.get(cell.index, {}).get(Outcome.FAILED, 0),
            planned=spec.repeats * cell.masks,
        )
        for cell in cells
    )
    return Summary(
        record=record,
        spec=spec,
        stamp=now,
        status=store.status(record.digest, sum(cell.planned for cell in progress)),
        cells=progress,
        runs=tuple(store.runs(record.digest)),
        last=last_stored(store, record.digest),
    )
