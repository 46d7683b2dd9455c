"""The store over SQLAlchemy: SQLite by default, any database it speaks to by URL.

Every method is one transaction: after a kill at any moment, what it wrote is whole or absent.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from trueoracle.store import schema
from trueoracle.store.adoption import Source, adopt
from trueoracle.store.answers import cell_answers
from trueoracle.store.migrate import OLDEST, migrate
from trueoracle.store.read_only import TOO_LONG, read_only_engine
from trueoracle.store.records import Answers, BaseRecord, CellRecord, MaskRecord, RunRecord, Status, StudyRecord, Tally
from trueoracle.store.schema import (
    answers,
    base_answers,
    bases,
    cells,
    costs,
    curves,
    masks,
    meta,
    runs,
    studies,
    trials,
)
from trueoracle.store.url import DEFAULT_URL
from trueoracle.store.whole_trials import whole_trials
from trueoracle.words.errors import StoreError, unknown
from trueoracle.words.trial import Figures, Outcome, SplitAnswers, Trial

if TYPE_CHECKING:
    import pandas as pd

_LOCK_SECONDS = 60  # several times what a page's question may take, so that no onlooker ends a study


class Store:
    """Everything that studies have found, behind one database URL."""

    def __init__(self, url: str = DEFAULT_URL, *, create: bool = False) -> None:
        """Open the store at `url`; with `create`, make it where there is none. `StoreError` if it is not ours."""
        self._open(url, _engine(url, create), create=create)

    @classmethod
    def for_reading(cls, url: str, seconds: float) -> "Store":
        """The store at `url` over connections that cannot write, and whose every question is broken off after so long.

        A reader of an SQLite file keeps writers waiting: `seconds` should be well below their patience.
        """
        _engine(url, create=False).dispose()  # it says what is wrong with the address
        store = cls.__new__(cls)
        store._open(url, read_only_engine(url, seconds), create=False)
        return store

    def _open(self, url: str, engine: Engine, *, create: bool) -> None:
        self.url = url
        self._engine = engine
        with self._transaction() as connection:
            _check(connection, url, create)

    def add_study(self, study: StudyRecord) -> StudyRecord:
        """Keep a study, or find it where it is kept already (under the name it was first run by)."""
        with self._transaction() as connection:
            row = connection.execute(select(studies).where(studies.c.digest == study.digest)).first()
            if row is None:
                connection.execute(insert(studies).values(**asdict(study)))
                return study
            return StudyRecord(**row._mapping)

    def studies(self) -> list[StudyRecord]:
        """Every study kept, by name."""
        with self._transaction() as connection:
            rows = connection.execute(select(studies).order_by(studies.c.name, studies.c.digest))
            return [StudyRecord(**row._mapping) for row in rows]

    def find(self, name: str) -> StudyRecord:
        """The study of this name, or whose digest begins so; `StoreError` if there is none or more than one."""
        kept = self.studies()
        found = [s for s in kept if s.name == name] or [s for s in kept if len(name) >= 6 and s.digest.startswith(name)]
        if not found:
            raise StoreError(f"{unknown('study', name, {s.name for s in kept})} (in the store {self.url})")
        if len(found) > 1:
            digests = ", ".join(s.digest[:12] for s in found)
            raise StoreError(f"{len(found)} studies are called `{name}`: name one by its digest, {digests}")
        return found[0]

    def base(self, study: str, number: int = 0) -> BaseRecord | None:
        """A base network of the study, if it has been trained."""
        with self._transaction() as connection:
            row = connection.execute(select(bases).where(bases.c.study == study, bases.c.base == number)).first()
        if row is None:
            return None
        facts = dict(row._mapping)
        del facts["study"]
        return BaseRecord(**facts)

    def put_base(self, study: str, base: BaseRecord) -> None:
        """Keep a base network of the study."""
        facts = {name: getattr(base, name) for name in base.__slots__ if name != "answers"}
        key = {"study": study, "base": base.base}
        with self._transaction() as connection:
            connection.execute(insert(bases).values(study=study, **facts))
            for split, given in base.answers.items():
                connection.execute(insert(base_answers).values(**key, split=split, **asdict(given)))

    def base_answers(self, study: str, number: int = 0, split: str = "test") -> SplitAnswers | None:
        """A base network's answers to a split, if it kept any."""
        query = select(base_answers.c.images, base_answers.c.bits, base_answers.c.losses).where(
            base_answers.c.study == study, base_answers.c.base == number, base_answers.c.split == split
        )
        with self._transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else SplitAnswers(**row._mapping)

    def answers(self, study: str, cell: int, split: str = "test", *, losses: bool = False) -> Answers | None:
        """All masks' answers to a split, of a cell by its index, with the losses on request; None if none were kept."""
        with self._transaction() as connection:
            return cell_answers(connection, study, cell, split, losses=losses)

    def cells(self, study: str) -> list[CellRecord]:
        """The study's cells in order, as far as they have been begun."""
        with self._transaction() as connection:
            rows = connection.execute(select(cells).where(cells.c.study == study).order_by(cells.c.cell)).all()
        return [
            CellRecord(
                index=r.cell,
                base=r.base,
                name=r.name,
                sites={site: (units, kept) for site, (units, kept) in json.loads(r.sites).items()},
                space=int(r.space),
                masks=r.masks,
                parameters=r.parameters,
                macs=r.macs,
            )
            for r in rows
        ]

    def put_cells(self, study: str, records: Iterable[CellRecord]) -> None:
        """Keep the study's cells; nothing happens if they are kept already."""
        if self.cells(study):
            return
        rows = []
        for record in records:
            facts = asdict(record)
            text = {"sites": json.dumps(record.sites), "space": str(record.space)}
            rows.append({"study": study, "cell": facts.pop("index"), **facts, **text})
        with self._transaction() as connection:
            connection.execute(insert(cells), rows)

    def masks(self, study: str, cell: int) -> dict[int, float]:
        """Rank -> pruned train loss, of the masks of a cell evaluated so far."""
        with self._transaction() as connection:
            query = select(masks.c.rank, masks.c.loss).where(masks.c.study == study, masks.c.cell == cell)
            return {int(row.rank): row.loss for row in connection.execute(query)}

    def searched(self, study: str, cell: int) -> list[int]:
        """The ranks, rising, of the masks of a cell that a search found."""
        with self._transaction() as connection:
            query = select(masks.c.rank, masks.c.scores).where(masks.c.study == study, masks.c.cell == cell)
            rows = connection.execute(query.order_by(masks.c.rank))
            return [int(row.rank) for row in rows if json.loads(row.scores).get(_SEARCHED)]

    def evaluated(self, study: str, cell: int) -> dict[int, tuple[float, float, float]]:
        """Rank -> pruned train loss, accuracy and standard error, of the masks of a cell evaluated so far, rising."""
        with self._transaction() as connection:
            query = select(masks).where(masks.c.study == study, masks.c.cell == cell).order_by(masks.c.rank)
            return {int(row.rank): (row.loss, row.accuracy, row.standard_error) for row in connection.execute(query)}

    def standard_errors(self, study: str, cell: int) -> dict[int, float]:
        """Rank -> standard error of the pruned train loss, of the masks of a cell evaluated so far."""
        with self._transaction() as connection:
            query = select(masks.c.rank, masks.c.standard_error).where(masks.c.study == study, masks.c.cell == cell)
            return {int(row.rank): row.standard_error for row in connection.execute(query)}

    def put_masks(self, study: str, records: Iterable[MaskRecord], digits: int) -> None:
        """Keep masks with their pruned losses; `digits` is the length of the space's largest rank."""
        rows = []
        for record in records:
            facts = asdict(record)
            marked = {_SEARCHED: True} if facts.pop("searched") else {}
            scores = json.dumps({**record.scores, **marked})
            rows.append({**facts, "study": study, "rank": _text(record.rank, digits), "scores": scores})
        with self._transaction() as connection:
            connection.execute(insert(masks), rows)

    def unscored(self, study: str, cell: int, score: str) -> list[int]:
        """The ranks of the cell's masks, rising, that have no score of this name yet."""
        with self._transaction() as connection:
            query = select(masks.c.rank, masks.c.scores).where(masks.c.study == study, masks.c.cell == cell)
            rows = connection.execute(query.order_by(masks.c.rank))
            return [int(row.rank) for row in rows if score not in json.loads(row.scores)]

    def add_scores(self, study: str, cell: int, score: str, values: Mapping[int, float], digits: int) -> None:
        """Keep one more score of masks that are kept already: `values` by rank."""
        with self._transaction() as connection:
            for rank, value in values.items():
                key = (masks.c.study == study) & (masks.c.cell == cell) & (masks.c.rank == _text(rank, digits))
                known = json.loads(connection.execute(select(masks.c.scores).where(key)).scalar_one())
                text = json.dumps({**known, score: value})
                connection.execute(update(masks).where(key).values(scores=text))

    def put_cost(self, study: str, cell: int, score: str, seconds: float) -> None:
        """Keep what it costs to score one mask of a cell alone, in core-seconds; nothing happens if that is kept already."""
        key = (costs.c.study == study) & (costs.c.cell == cell) & (costs.c.score == score)
        with self._transaction() as connection:
            if connection.execute(select(costs.c.seconds).where(key)).first() is None:
                connection.execute(insert(costs).values(study=study, cell=cell, score=score, seconds=seconds))

    def costs(self, study: str) -> dict[str, dict[int, float]]:
        """Score -> cell -> core-seconds that one mask alone takes, as far as it was measured."""
        found: dict[str, dict[int, float]] = {}
        with self._transaction() as connection:
            for row in connection.execute(select(costs).where(costs.c.study == study)):
                found.setdefault(row.score, {})[row.cell] = row.seconds
        return found

    def settled(self, study: str) -> set[tuple[int, int, int]]:
        """(cell, rank, repeat) of every trial that finished or diverged: these never change."""
        with self._transaction() as connection:
            query = select(trials.c.cell, trials.c.rank, trials.c.repeat).where(
                trials.c.study == study, trials.c.outcome != Outcome.FAILED.name
            )
            return {(row.cell, int(row.rank), row.repeat) for row in connection.execute(query)}

    def put_trials(self, study: str, fleet: Sequence[Trial], digits: int, run: int) -> None:
        """Keep trials with their curves, all or none. Those that failed before are replaced, others raise `StoreError`."""
        keys = [
            {"study": study, "cell": trial.cell, "rank": _text(trial.mask, digits), "repeat": trial.repeat}
            for trial in fleet
        ]
        rows = [
            {**key, "seed": trial.seed, "outcome": trial.outcome.name, "error": trial.error, "seconds": trial.seconds,
             **(asdict(trial.final) if trial.final else _NO_FIGURES)}
            for key, trial in zip(keys, fleet, strict=True)
        ]  # fmt: skip
        points = [
            {**key, "epoch": epoch, **asdict(figures)}
            for key, trial in zip(keys, fleet, strict=True)
            for epoch, figures in enumerate(trial.curve, start=1)
        ]
        given = [
            {**key, "split": split, **asdict(of_split)}
            for key, trial in zip(keys, fleet, strict=True)
            for split, of_split in trial.answers.items()
        ]
        same = [trials.c[name] == bindparam(f"old_{name}") for name in ("study", "cell", "rank", "repeat")]
        failed = delete(trials).where(*same, trials.c.outcome == Outcome.FAILED.name)
        with self._transaction() as connection:
            connection.execute(failed, [{f"old_{name}": value for name, value in key.items()} for key in keys])
            last = connection.execute(select(func.max(trials.c.number)).where(trials.c.study == study)).scalar() or 0
            when = {"run": run, "at": time()}
            connection.execute(insert(trials), [{**row, **when, "number": n} for n, row in enumerate(rows, last + 1)])
            for table, more in ((curves, points), (answers, given)):
                if more:
                    connection.execute(insert(table), more)
            count = runs.c.trials + len(fleet)
            connection.execute(update(runs).where(runs.c.id == run).values(last=time(), trials=count))

    def whole_trials(self, study: str, cell: int) -> list[Trial]:
        """The trials of a cell, by its index, with their curves and answers, by mask and repeat."""
        with self._transaction() as connection:
            return whole_trials(connection, study, cell)

    def adopt(self, study: str, cell: int, source: Source, ranks: Collection[int], repeats: int, digits: int) -> int:
        """Copy what another study found of the same masks by the same seeds, unless it is known: masks, settled trials.

        Returns how many trials were copied.
        """
        with self._transaction() as connection:
            return adopt(connection, (study, cell), source, [_text(rank, digits) for rank in ranks], repeats)

    def begin_run(self, study: str, threads: int, versions: dict[str, str]) -> int:
        """Note that retraining begins now; the number identifies this run."""
        now = time()
        with self._transaction() as connection:
            result = connection.execute(
                insert(runs).values(
                    study=study,
                    started=now,
                    last=now,
                    trials=0,
                    threads=threads,
                    versions=json.dumps(versions),
                )
            )
            return int(result.inserted_primary_key[0])  # type: ignore[index]

    def runs(self, study: str) -> list[RunRecord]:
        """The runs of the study that stored trials, the first one first."""
        with self._transaction() as connection:
            rows = connection.execute(select(runs).where(runs.c.study == study, runs.c.trials > 0).order_by(runs.c.id))
            return [
                RunRecord(
                    started=r.started,
                    last=r.last,
                    trials=r.trials,
                    threads=r.threads,
                    versions=json.loads(r.versions),
                )
                for r in rows
            ]

    def tallies(self) -> dict[str, Tally]:
        """Digest -> its finished trials, for every study that has some."""
        query = (
            select(trials.c.study, func.count(), func.avg(trials.c.seconds))
            .where(trials.c.outcome == Outcome.FINISHED.name)
            .group_by(trials.c.study)
        )
        with self._transaction() as connection:
            return {study: Tally(trials=count, mean_seconds=mean) for study, count, mean in connection.execute(query)}

    def status(self, study: str, total: int) -> Status:
        """How far the study of `total` trials is."""
        with self._transaction() as connection:
            tally = select(trials.c.outcome, func.count()).where(trials.c.study == study).group_by(trials.c.outcome)
            counts = {outcome: count for outcome, count in connection.execute(tally)}  # noqa: C416 - rows, not pairs
            query = select(runs).where(runs.c.study == study, runs.c.trials > 0).order_by(runs.c.id.desc())
            run = connection.execute(query).first()
        return Status(
            total=total,
            finished=counts.get(Outcome.FINISHED.name, 0),
            diverged=counts.get(Outcome.DIVERGED.name, 0),
            failed=counts.get(Outcome.FAILED.name, 0),
            rate=run.trials / (run.last - run.started) if run and run.last > run.started else None,
        )

    def mask_table(self, study: str) -> "pd.DataFrame":
        """A row a mask, in order: `base, cell, mask, pruned, pruned_train_loss, pruned_train_accuracy`, and a column
        for every score.
        """
        import pandas as pd

        query = (
            select(cells.c.base, cells.c.name.label("cell"), masks)
            .join(masks, (masks.c.study == cells.c.study) & (masks.c.cell == cells.c.cell))
            .where(masks.c.study == study)
            .order_by(masks.c.cell, masks.c.rank)
        )
        with self._transaction() as connection:
            rows = connection.execute(
                query.with_only_columns(
                    cells.c.base,
                    cells.c.name.label("cell"),
                    masks.c.rank,
                    masks.c.pruned,
                    masks.c.loss,
                    masks.c.accuracy,
                    masks.c.scores,
                )
            ).all()
        table = pd.DataFrame(
            [(r.base, r.cell, int(r.rank), r.pruned, r.loss, r.accuracy) for r in rows],
            columns=["base", "cell", "mask", "pruned", "pruned_train_loss", "pruned_train_accuracy"],
        )
        return _with_scores(table, [r.scores for r in rows])

    def trial_table(self, study: str) -> "pd.DataFrame":
        """A row a trial, in order of base, cell, mask and repeat, with a column for every score of its mask.

        Figures are missing where a trial did not finish; those on validation have no column where there is no such split.
        """
        import pandas as pd

        query = (
            select(
                studies.c.name.label("study"), cells.c.base, cells.c.name.label("cell"), trials.c.rank, masks.c.pruned,
                trials.c.repeat, trials.c.seed, masks.c.loss, masks.c.accuracy, trials.c.train_loss,
                trials.c.test_loss, trials.c.test_accuracy, trials.c.validation_loss, trials.c.validation_accuracy,
                trials.c.outcome, trials.c.seconds, masks.c.scores,
            )
            .join(studies, studies.c.digest == trials.c.study)
            .join(cells, (cells.c.study == trials.c.study) & (cells.c.cell == trials.c.cell))
            .join(
                masks,
                (masks.c.study == trials.c.study) & (masks.c.cell == trials.c.cell) & (masks.c.rank == trials.c.rank),
            )
            .where(trials.c.study == study)
            .order_by(trials.c.cell, trials.c.rank, trials.c.repeat)
        )  # fmt: skip
        with self._transaction() as connection:
            rows = [list(row) for row in connection.execute(query)]
        table = pd.DataFrame([row[:-1] for row in rows], columns=list(TRIAL_COLUMNS))
        table["mask"] = [int(rank) for rank in table["mask"]]
        table["outcome"] = [Outcome[name].value for name in table["outcome"]]
        figures = ["final_train_loss", "final_test_loss", "final_test_accuracy", *_FINAL_VALIDATION]
        table[figures] = table[figures].astype(float)
        table = _without_empty(table, _FINAL_VALIDATION)
        return _with_scores(table, [row[-1] for row in rows])

    def curve_table(self, study: str, cell: int | None = None) -> "pd.DataFrame":
        """A row an epoch of a trial: `base, cell, mask, repeat, epoch` and the losses and accuracies after it.

        Those of one cell, by its index, or of all.
        """
        import pandas as pd

        query = (
            select(
                cells.c.base, cells.c.name.label("cell"), curves.c.rank.label("mask"), curves.c.repeat, curves.c.epoch,
                curves.c.train_loss, curves.c.train_accuracy, curves.c.test_loss, curves.c.test_accuracy,
                curves.c.validation_loss, curves.c.validation_accuracy,
            )
            .join(cells, (cells.c.study == curves.c.study) & (cells.c.cell == curves.c.cell))
            .where(curves.c.study == study)
            .order_by(curves.c.cell, curves.c.rank, curves.c.repeat, curves.c.epoch)
        )  # fmt: skip
        if cell is not None:
            query = query.where(curves.c.cell == cell)
        with self._transaction() as connection:
            result = connection.execute(query)
            table = pd.DataFrame([list(row) for row in result], columns=list(result.keys()))
        table["mask"] = [int(rank) for rank in table["mask"]]
        return _without_empty(table, ["validation_loss", "validation_accuracy"])

    def read(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        """All rows of a query, in a transaction of its own."""
        with self._transaction() as connection:
            return connection.execute(query).all()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise StoreError(_sentence(error, self.url)) from error


TRIAL_COLUMNS = (
    "study", "base", "cell", "mask", "pruned", "repeat", "seed", "pruned_train_loss", "pruned_train_accuracy",
    "final_train_loss", "final_test_loss", "final_test_accuracy", "final_validation_loss",
    "final_validation_accuracy", "outcome", "seconds",
)  # fmt: skip
# A mark that stands among a mask's scores, so that stores of old need no new column; only studies that search have it.
_SEARCHED = "searched"
_FINAL_VALIDATION = ["final_validation_loss", "final_validation_accuracy"]


_NO_FIGURES = dict.fromkeys(Figures.__slots__)


def _without_empty(table: "pd.DataFrame", columns: list[str]) -> "pd.DataFrame":
    """The table without those of `columns` that hold nothing at all."""
    return table.drop(columns=[column for column in columns if table[column].isna().all()])


def _with_scores(table: "pd.DataFrame", scores: Sequence[str]) -> "pd.DataFrame":
    """The table with a column for every name in the rows' `scores`, each a JSON object; `searched` is one of yes or no."""
    import pandas as pd

    columns = pd.DataFrame([json.loads(text) for text in scores], index=table.index)
    if _SEARCHED in columns:
        columns[_SEARCHED] = columns[_SEARCHED].notna()
    return pd.concat([table, columns], axis=1)


def _text(rank: int, digits: int) -> str:
    return str(rank).zfill(digits)


def store_exists(url: str) -> bool:
    """Whether `url` names something to open: an existing file for SQLite, any other database without asking it."""
    path = _sqlite_file(url)
    return path is None or _begun(path)


def _begun(path: Path) -> bool:
    """Whether the file holds a database: one that was killed before its first transaction left an empty file."""
    return path.exists() and path.stat().st_size > 0


def _sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for a store that is in no file of ours to look for."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    path = parsed.database
    if parsed.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return Path(path)


def _engine(url: str, create: bool) -> Engine:
    try:
        parsed = make_url(url)
        arguments = {"timeout": _LOCK_SECONDS} if parsed.get_backend_name() == "sqlite" else {}
        engine = create_engine(parsed, connect_args=arguments)
    except (ArgumentError, NoSuchModuleError, ImportError):
        raise StoreError(
            f"`{url}` is no store: a store is named like {DEFAULT_URL} or postgresql://host/name"
        ) from None
    path = _sqlite_file(url)
    if path is not None and not path.parent.is_dir():
        raise StoreError(f"the folder of the store `{path}` does not exist")
    if path is not None and not create and not _begun(path):
        raise StoreError(f"there is no store at `{path}`: `trueoracle run` makes one, or name another with --store")
    return engine


def _check(connection: Connection, url: str, create: bool) -> None:
    tables = inspect(connection).get_table_names()
    if not tables and create:
        schema.metadata.create_all(connection)
        facts = [
            {"key": "application", "value": schema.APPLICATION},
            {"key": "schema", "value": str(schema.VERSION)},
        ]
        connection.execute(insert(meta), facts)
        return
    known = {}
    if {"meta", "studies", "trials"} <= set(tables):
        known = {row.key: row.value for row in connection.execute(select(meta))}
    if known.get("application") != schema.APPLICATION:
        raise StoreError(f"the database {url} is no trueoracle store: nothing was changed; name another with --store")
    if int(known["schema"]) > schema.VERSION:
        raise StoreError(
            f"the store {url} has schema {known['schema']}, newer than this trueoracle's {schema.VERSION}: update trueoracle"
        )
    if int(known["schema"]) < OLDEST:
        raise StoreError(
            f"the store {url} has schema {known['schema']}, older than this trueoracle's {schema.VERSION}: "
            "read it with the version that wrote it, or name another with --store"
        )
    if int(known["schema"]) < schema.VERSION:
        _bring_forward(connection, url, int(known["schema"]))


def _bring_forward(connection: Connection, url: str, found: int) -> None:
    try:
        migrate(connection, found)
    except DBAPIError as error:
        if "readonly" not in str(error.orig):
            raise
        raise StoreError(
            f"the store {url} has schema {found}, which must be brought to {schema.VERSION}, but it is only read here: "
            "`trueoracle status STUDY --store` does it where the file can be written"
        ) from None


def _sentence(error: DBAPIError, url: str) -> str:
    reason = str(error.orig).splitlines()[0]
    if any(words in reason for words in TOO_LONG):
        return f"the store {url} was asked something that takes too long: ask for less"
    if "locked" in reason:
        return f"the store {url} is locked by another process for over {_LOCK_SECONDS} s: wait for it, or name another with --store"
    if "readonly" in reason:
        return f"the store {url} is read-only: nothing was written; name another with --store"
    if "not a database" in reason:
        return f"the file of {url} is no database: name another with --store"
    return f"the store {url} failed: {reason}"
