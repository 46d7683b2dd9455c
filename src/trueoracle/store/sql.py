"""The store over SQLAlchemy: SQLite by default, any database it speaks to by URL.

Every method is one transaction: after a kill at any moment, what it wrote is whole or absent.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from time import time
from traceback import clear_frames
from typing import TYPE_CHECKING, Any
from weakref import finalize

from sqlalchemy import Connection, Engine, Row, Select, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from trueoracle.store import schema
from trueoracle.store.adoption import Source, adopt
from trueoracle.store.answers import cell_answers
from trueoracle.store.checksums import stamped, verified
from trueoracle.store.claims import (
    LEASE_SECONDS,
    Claim,
    InFlight,
    Piece,
    claim,
    give_back,
    in_flight,
    open_stage,
    pieces_left,
    prolong,
    settle,
)
from trueoracle.store.dialects import (
    check_whole,
    insert_new,
    is_away,
    is_read_only,
    one_maker,
    prepare,
    read_only_engine,
    sentence,
    to_write,
)
from trueoracle.store.migrate import migrate
from trueoracle.store.opening import make_tables, opened, schema_found
from trueoracle.store.records import Answers, BaseRecord, CellRecord, MaskRecord, RunRecord, Status, StudyRecord, Tally
from trueoracle.store.schema import base_answers, bases, cells, costs, masks, runs, studies, trials
from trueoracle.store.selections import keep_selection, kept_selection, kept_selections
from trueoracle.store.tables import ROWS_AT_ONCE, SEARCHED, WEIGHT, curve_parts, largest_rank, mask_table, trial_parts
from trueoracle.store.trials import forget_failed, keep_trials
from trueoracle.store.url import DEFAULT_URL, shown_url
from trueoracle.store.whole_trials import whole_trials
from trueoracle.words.errors import StoreAway, StoreError, unknown
from trueoracle.words.selection import Selected
from trueoracle.words.trial import Outcome, SplitAnswers, Trial

if TYPE_CHECKING:
    import pandas as pd

_LATEST = 1_000  # trials that tell what one takes


class Store:
    """Everything that studies have found, behind one database URL."""

    def __init__(self, url: str = DEFAULT_URL, *, create: bool = False) -> None:
        """Open the store at `url`; with `create`, make it where there is none. `StoreError` if it is not ours."""
        self._open(url, opened(url, create), create=create)

    @classmethod
    def for_reading(cls, url: str, seconds: float) -> "Store":
        """The store at `url` over connections that cannot write, and whose every question is broken off after so long.

        A reader of an SQLite file keeps writers waiting: `seconds` should be well below their patience.
        """
        opened(url, create=False).dispose()  # it says what is wrong with the address
        store = cls.__new__(cls)
        store._open(url, read_only_engine(url, seconds), create=False)
        store._whole = True  # none of its questions may take as long as looking through a large file does
        return store

    def _open(self, url: str, engine: Engine, *, create: bool) -> None:
        self.url = url
        self._engine = engine
        self._whole = False
        finalize(self, engine.dispose)  # connections end with the store that they belong to
        with self._reading() as connection:
            found = schema_found(connection, url, create)
        if found != schema.VERSION:
            self._bring_forward(found, create)
        if create:
            prepare(engine)

    def _bring_forward(self, found: int | None, create: bool) -> None:
        """Make the tables, or bring those of an older schema to this one; of several that come at once, the first does."""
        try:
            with self._engine.connect() as connection, to_write(connection).begin():
                one_maker(connection)
                now = schema_found(connection, self.url, create)
                if now is None:
                    make_tables(connection)
                elif now < schema.VERSION:
                    migrate(connection, now)
        except DBAPIError as error:
            if found is None or not is_read_only(error):
                raise StoreError(sentence(error, self.url)) from error
            raise StoreError(
                f"the store {shown_url(self.url)} has schema {found}, which must be brought to {schema.VERSION}, but it is only read "
                "here: `trueoracle status STUDY --store` does it where the file can be written"
            ) from None

    def add_study(self, study: StudyRecord) -> StudyRecord:
        """Keep a study, or find it where it is kept already (under the name it was first run by)."""
        with self._writing() as connection:
            connection.execute(insert_new(studies, connection.dialect).values(**asdict(study)))
            row = connection.execute(select(studies).where(studies.c.digest == study.digest)).one()
            return StudyRecord(**row._mapping)

    def studies(self) -> list[StudyRecord]:
        """Every study kept, by name."""
        with self._reading() as connection:
            rows = connection.execute(select(studies).order_by(studies.c.name, studies.c.digest))
            return [StudyRecord(**row._mapping) for row in rows]

    def find(self, name: str) -> StudyRecord:
        """The study of this name, or whose digest begins so; `StoreError` if there is none or more than one."""
        kept = self.studies()
        found = [s for s in kept if s.name == name] or [s for s in kept if len(name) >= 6 and s.digest.startswith(name)]
        if not found:
            raise StoreError(f"{unknown('study', name, {s.name for s in kept})} (in the store {shown_url(self.url)})")
        if len(found) > 1:
            digests = ", ".join(s.digest[:12] for s in found)
            raise StoreError(f"{len(found)} studies are called `{name}`: name one by its digest, {digests}")
        return found[0]

    def base(self, study: str, number: int = 0) -> BaseRecord | None:
        """A base network of the study, if it has been trained."""
        with self._reading() as connection:
            row = connection.execute(select(bases).where(bases.c.study == study, bases.c.base == number)).first()
            if row is None:
                return None
            (row,) = verified(bases, [row])
        facts = dict(row._mapping)
        del facts["study"], facts["checksum"]
        return BaseRecord(**facts)

    def put_base(self, study: str, base: BaseRecord) -> None:
        """Keep a base network of the study; nothing happens if one of this number is kept already."""
        facts = {name: getattr(base, name) for name in base.__slots__ if name != "answers"}
        key = {"study": study, "base": base.base}
        given = [{**key, "split": split, **asdict(of_split)} for split, of_split in base.answers.items()]
        with self._writing() as connection:
            rows = stamped(bases, [{"study": study, **facts}])
            if connection.execute(insert_new(bases, connection.dialect), rows).rowcount and given:
                connection.execute(insert(base_answers), stamped(base_answers, given))

    def base_answers(self, study: str, number: int = 0, split: str = "test") -> SplitAnswers | None:
        """A base network's answers to a split, if it kept any."""
        query = select(base_answers).where(
            base_answers.c.study == study, base_answers.c.base == number, base_answers.c.split == split
        )
        with self._reading() as connection:
            rows = list(verified(base_answers, connection.execute(query)))
        return SplitAnswers(images=rows[0].images, bits=rows[0].bits, losses=rows[0].losses) if rows else None

    def answers(self, study: str, cell: int, split: str = "test", *, losses: bool = False) -> Answers | None:
        """All masks' answers to a split, of a cell by its index, with the losses on request; None if none were kept."""
        with self._reading_whole() as connection:
            return cell_answers(connection, study, cell, split, losses=losses)

    def cells(self, study: str) -> list[CellRecord]:
        """The study's cells in order, as far as they have been begun."""
        with self._reading() as connection:
            found = connection.execute(select(cells).where(cells.c.study == study).order_by(cells.c.cell))
            rows = list(verified(cells, found))
        return [
            CellRecord(
                index=r.cell,
                base=r.base,
                name=r.name,
                **_sites(r.sites),
                space=int(r.space),
                masks=r.masks,
                parameters=r.parameters,
                macs=r.macs,
            )
            for r in rows
        ]

    def put_cells(self, study: str, records: Iterable[CellRecord]) -> None:
        """Keep the study's cells; nothing happens if they are kept already."""
        rows = []
        for record in records:
            facts = asdict(record)
            text = {"sites": _sites_text(record), "space": str(record.space)}
            del facts["of_weights"]
            rows.append({"study": study, "cell": facts.pop("index"), **facts, **text})
        with self._writing() as connection:
            if rows:
                connection.execute(insert_new(cells, connection.dialect), stamped(cells, rows))

    def masks(self, study: str, cell: int) -> dict[int, float]:
        """Rank -> pruned train loss, of the masks of a cell evaluated so far."""
        with self._reading_whole() as connection:
            query = select(masks).where(masks.c.study == study, masks.c.cell == cell).order_by(masks.c.rank)
            return {int(row.rank): row.loss for row in verified(masks, connection.execute(query))}

    def searched(self, study: str, cell: int) -> dict[int, str]:
        """Rank, rising, -> what is pruned, of the masks of a cell that were chosen but are not of a stratified sample."""
        return self._marked(study, cell, weighted=False)

    def tail(self, study: str, cell: int) -> list[int]:
        """The ranks, rising, of the masks of a cell that a stratified sample has beside those drawn at random."""
        return list(self._marked(study, cell, weighted=True))

    def _marked(self, study: str, cell: int, *, weighted: bool) -> dict[int, str]:
        with self._reading() as connection:
            query = select(masks).where(masks.c.study == study, masks.c.cell == cell).order_by(masks.c.rank)
            rows = [(row, json.loads(row.scores)) for row in verified(masks, connection.execute(query))]
        return {
            int(row.rank): row.pruned for row, scores in rows if scores.get(SEARCHED) and (WEIGHT in scores) == weighted
        }

    def evaluated(self, study: str, cell: int) -> dict[int, tuple[float, float, float]]:
        """Rank -> pruned train loss, accuracy and standard error, of the masks of a cell evaluated so far, rising."""
        with self._reading_whole() as connection:
            query = select(masks).where(masks.c.study == study, masks.c.cell == cell).order_by(masks.c.rank)
            rows = verified(masks, connection.execute(query))
            return {int(row.rank): (row.loss, row.accuracy, row.standard_error) for row in rows}

    def standard_errors(self, study: str, cell: int) -> dict[int, float]:
        """Rank -> standard error of the pruned train loss, of the masks of a cell evaluated so far."""
        with self._reading_whole() as connection:
            query = select(masks).where(masks.c.study == study, masks.c.cell == cell).order_by(masks.c.rank)
            return {int(row.rank): row.standard_error for row in verified(masks, connection.execute(query))}

    def put_masks(self, study: str, records: Iterable[MaskRecord], digits: int) -> None:
        """Keep masks with their pruned losses, but those that are kept already; `digits` is the length of the space's
        largest rank.
        """
        rows = []
        for record in records:
            facts = asdict(record)
            marked = {SEARCHED: True} if facts.pop("searched") else {}
            weighed = {WEIGHT: weight} if (weight := facts.pop("weight")) is not None else {}
            scores = json.dumps({**record.scores, **marked, **weighed})
            rows.append({**facts, "study": study, "rank": _text(record.rank, digits), "scores": scores})
        with self._writing() as connection:
            if rows:
                connection.execute(insert_new(masks, connection.dialect), stamped(masks, rows))

    def unscored(self, study: str, cell: int, score: str) -> list[int]:
        """The ranks of the cell's masks, rising, that have no score of this name yet."""
        with self._reading() as connection:
            query = select(masks.c.rank, masks.c.scores).where(masks.c.study == study, masks.c.cell == cell)
            rows = connection.execute(query.order_by(masks.c.rank))
            return [int(row.rank) for row in rows if score not in json.loads(row.scores)]

    def add_scores(self, study: str, cell: int, score: str, values: Mapping[int, float], digits: int) -> None:
        """Keep one more score of masks that are kept already: `values` by rank."""
        with self._writing() as connection:
            for rank, value in values.items():
                key = (masks.c.study == study) & (masks.c.cell == cell) & (masks.c.rank == _text(rank, digits))
                known = connection.execute(select(masks).where(key).with_for_update())
                (row,) = verified(masks, [known.one()])
                text = json.dumps({**json.loads(row.scores), score: value})
                (new,) = stamped(masks, [{**row._mapping, "scores": text}])
                same = {name: new[name] for name in ("scores", "checksum")}
                connection.execute(update(masks).where(key).values(**same))

    def put_cost(self, study: str, cell: int, score: str, seconds: float) -> None:
        """Keep what it costs to score one mask of a cell alone, in core-seconds; nothing happens if that is kept already."""
        row = {"study": study, "cell": cell, "score": score, "seconds": seconds}
        with self._writing() as connection:
            connection.execute(insert_new(costs, connection.dialect), [row])

    def costs(self, study: str) -> dict[str, dict[int, float]]:
        """Score -> cell -> core-seconds that one mask alone takes, as far as it was measured."""
        found: dict[str, dict[int, float]] = {}
        with self._reading() as connection:
            for row in connection.execute(select(costs).where(costs.c.study == study)):
                found.setdefault(row.score, {})[row.cell] = row.seconds
        return found

    def settled(self, study: str) -> set[tuple[int, int, int]]:
        """(cell, rank, repeat) of every trial that finished or diverged: these never change."""
        with self._reading_whole() as connection:
            query = select(trials.c.cell, trials.c.rank, trials.c.repeat).where(
                trials.c.study == study, trials.c.outcome != Outcome.FAILED.name
            )
            return {(row.cell, int(row.rank), row.repeat) for row in connection.execute(query)}

    def put_trials(
        self, study: str, fleet: Sequence[Trial], digits: int, run: int, *, claim: Claim | None = None
    ) -> bool:
        """Keep trials with their curves, all or none. Those that failed before are replaced, others raise `StoreError`.

        With the `claim` of the piece that they are, the piece is settled at once. Where it is no longer ours nothing is
        written, and False comes back: whoever has it now makes the same trials.
        """
        keys = [
            {"study": study, "cell": trial.cell, "rank": _text(trial.mask, digits), "repeat": trial.repeat}
            for trial in fleet
        ]
        with self._writing() as connection:
            if claim is not None and not settle(connection, claim):
                return False
            if keys:
                forget_failed(connection, keys)
                keep_trials(connection, study, fleet, keys, run)
        return True

    def whole_trials(self, study: str, cell: int) -> list[Trial]:
        """The trials of a cell, by its index, with their curves and answers, by mask and repeat."""
        with self._reading_whole() as connection:
            return whole_trials(connection, study, cell)

    def adopt(self, study: str, cell: int, source: Source, ranks: Collection[int], repeats: int, digits: int) -> int:
        """Copy what another study found of the same masks by the same seeds, unless it is known: masks, settled trials.

        Returns how many trials were copied.
        """
        with self._writing() as connection:
            return adopt(connection, (study, cell), source, [_text(rank, digits) for rank in ranks], repeats)

    def keep_selection(self, found: Selected) -> None:
        """Keep what a selection came to, in place of what was kept under its name."""
        with self._writing() as connection:
            keep_selection(connection, found)

    def selection(self, name: str) -> Selected | None:
        """What the selection of this name came to; None where there is none."""
        with self._reading() as connection:
            return kept_selection(connection, name)

    def selections(self) -> list[Selected]:
        """What every selection came to, or has come to so far, by name."""
        with self._reading() as connection:
            return kept_selections(connection)

    def begin_run(self, study: str, threads: int, versions: dict[str, str], worker: str | None = None) -> int:
        """Note that retraining begins now; the number identifies this run."""
        now = time()
        with self._writing() as connection:
            result = connection.execute(
                insert(runs).values(
                    study=study,
                    started=now,
                    last=now,
                    trials=0,
                    threads=threads,
                    versions=json.dumps(versions),
                    worker=worker,
                )
            )
            return int(result.inserted_primary_key[0])  # type: ignore[index]

    def runs(self, study: str) -> list[RunRecord]:
        """The runs of the study that stored trials, the first one first."""
        with self._reading() as connection:
            rows = connection.execute(select(runs).where(runs.c.study == study, runs.c.trials > 0).order_by(runs.c.id))
            return [
                RunRecord(
                    started=r.started,
                    last=r.last,
                    trials=r.trials,
                    threads=r.threads,
                    versions=json.loads(r.versions),
                    worker=r.worker,
                )
                for r in rows
            ]

    def tallies(self) -> dict[str, Tally]:
        """Digest -> its finished trials, for every study that has some."""
        finished = trials.c.outcome == Outcome.FINISHED.name
        with self._reading() as connection:
            counts = connection.execute(
                select(trials.c.study, func.count()).where(finished).group_by(trials.c.study)
            ).all()
            return {
                study: Tally(trials=count, mean_seconds=_mean_of_latest(connection, study)) for study, count in counts
            }

    def status(self, study: str, total: int) -> Status:
        """How far the study of `total` trials is."""
        with self._reading() as connection:
            tally = select(trials.c.outcome, func.count()).where(trials.c.study == study).group_by(trials.c.outcome)
            counts = {outcome: count for outcome, count in connection.execute(tally)}  # noqa: C416 - rows, not pairs
        return Status(
            total=total,
            finished=counts.get(Outcome.FINISHED.name, 0),
            diverged=counts.get(Outcome.DIVERGED.name, 0),
            failed=counts.get(Outcome.FAILED.name, 0),
            rate=_rate(self.runs(study)),
        )

    def mask_table(self, study: str) -> "pd.DataFrame":
        """A row a mask, in order: `base, cell, mask, pruned, pruned_train_loss, pruned_train_accuracy`, and a column
        for every score.
        """
        with self._reading_whole() as connection:
            return mask_table(connection, study)

    def trial_table(self, study: str) -> "pd.DataFrame":
        """A row a trial, in order of base, cell, mask and repeat, with a column for every score of its mask.

        Figures are missing where a trial did not finish; those on validation have no column where there is no such split.
        """
        import pandas as pd

        return pd.concat(self.trial_parts(study), ignore_index=True)

    def trial_parts(self, study: str, rows: int = ROWS_AT_ONCE) -> Iterator["pd.DataFrame"]:
        """The trial table in parts of so many rows, for tables that no memory should hold."""
        with self._reading_whole() as connection:
            yield from trial_parts(connection, study, rows)

    def curve_table(self, study: str, cell: int | None = None) -> "pd.DataFrame":
        """A row an epoch of a trial: `base, cell, mask, repeat, epoch` and the losses and accuracies after it.

        Those of one cell, by its index, or of all.
        """
        import pandas as pd

        return pd.concat(self.curve_parts(study, cell), ignore_index=True)

    def curve_parts(self, study: str, cell: int | None = None, rows: int = ROWS_AT_ONCE) -> Iterator["pd.DataFrame"]:
        """The curve table in parts of so many rows."""
        with self._reading_whole() as connection:
            yield from curve_parts(connection, study, cell, rows)

    def largest_rank(self, study: str) -> int:
        """Of all masks of the study; -1 where there is none."""
        with self._reading() as connection:
            return largest_rank(connection, study)

    def open_stage(self, study: str, stage: str, missing: Callable[[], Iterable[Piece]]) -> None:
        """List the pieces that are missing of a stage, unless some are listed already; `missing` is asked only then."""
        with self._writing() as connection:
            open_stage(connection, study, stage, missing)

    def claim(
        self, study: str, stage: str, worker: str, *, dead: Sequence[str] = (), seconds: float = LEASE_SECONDS
    ) -> Claim | None:
        """The first free piece of the stage, ours for so long; None where there is none.

        Free are pieces that nobody holds, whose time is over, or whose holder is among the `dead`.
        """
        with self._writing() as connection:
            return claim(connection, study, stage, worker, dead, seconds)

    def prolong(self, claims: Sequence[Claim], seconds: float = LEASE_SECONDS) -> None:
        """Hold the pieces for so long from now; nothing happens to those that another has taken over."""
        with self._writing() as connection:
            prolong(connection, claims, seconds)

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Let others have the pieces at once."""
        with self._writing() as connection:
            give_back(connection, claims)

    def settle(self, claim: Claim) -> bool:
        """Take a piece off the list that stores no trials, or has stored what it found; False where it is not ours."""
        with self._writing() as connection:
            return settle(connection, claim)

    def pieces_left(self, study: str, stage: str | None = None) -> int:
        """How many pieces of a stage, or of all that are open, are listed, claimed ones included."""
        with self._reading() as connection:
            return pieces_left(connection, study, stage)

    def in_flight(self, study: str) -> list[InFlight]:
        """The claimed pieces of a study, by worker."""
        with self._reading() as connection:
            return in_flight(connection, study)

    def read(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        """All rows of a query, in a transaction of its own."""
        with self._reading() as connection:
            return connection.execute(query).all()

    def _writing(self) -> AbstractContextManager[Connection]:
        """One transaction that may write."""
        return self._transaction(writes=True)

    @contextmanager
    def _reading_whole(self) -> Iterator[Connection]:
        """As `_reading`, for what must miss no row: the file is looked through first, once for each store that is opened."""
        with self._reading() as connection:
            if not self._whole:
                check_whole(connection, self.url)
                self._whole = True
            yield connection

    def _reading(self) -> AbstractContextManager[Connection]:
        """One transaction that only reads."""
        return self._transaction(writes=False)

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection, (to_write(connection) if writes else connection).begin():
                try:
                    yield connection
                except Exception as error:
                    clear_frames(error.__traceback__)  # what was being streamed ends before its connection does
                    raise
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise StoreError(f"the file of {shown_url(self.url)} is damaged: take it from a copy") from error
        except DBAPIError as error:
            kind = StoreAway if is_away(error) else StoreError
            raise kind(sentence(error, self.url)) from error


def _mean_of_latest(connection: Connection, study: str) -> float:
    """The core-seconds of a finished trial, of the latest ones: all of a large study would be read for seconds."""
    latest = (
        select(trials.c.seconds)
        .where(trials.c.study == study, trials.c.outcome == Outcome.FINISHED.name)
        .order_by(trials.c.number.desc())
        .limit(_LATEST)
    ).subquery()
    return float(connection.execute(select(func.avg(latest.c.seconds))).scalar_one())


def _rate(known: Sequence[RunRecord]) -> float | None:
    """Trials a second of the latest run, and of those that stored beside it."""
    if not known:
        return None
    return sum(run.rate or 0.0 for run in known if run.last >= known[-1].started) or None


def _text(rank: int, digits: int) -> str:
    return str(rank).zfill(digits)


def _sites_text(record: CellRecord) -> str:
    """What is pruned of sites as pairs; of weights they have names, so that no column tells the two apart."""
    if not record.of_weights:
        return json.dumps(record.sites)
    return json.dumps({site: {"weights": weights, "kept": kept} for site, (weights, kept) in record.sites.items()})


def _sites(text: str) -> dict[str, Any]:
    """The facts of a cell's record that `_sites_text` wrote."""
    found = json.loads(text)
    of_weights = any(isinstance(of_site, dict) for of_site in found.values())
    pairs = {site: tuple(pair.values()) if of_weights else tuple(pair) for site, pair in found.items()}
    return {"sites": pairs, "of_weights": of_weights}
