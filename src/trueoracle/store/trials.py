"""Trials written: rows, curves and answers together."""

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from trueoracle.store.checksums import stamped
from trueoracle.store.curves import packed
from trueoracle.store.prepared import Prepared
from trueoracle.store.schema import answers, curves, runs, studies, trials
from trueoracle.words.trial import Figures, Outcome, SplitAnswers, Trial

_NO_FIGURES = dict.fromkeys(Figures.__slots__)


def _into(table: Table) -> Prepared:
    return Prepared(lambda _: insert(table))


_FORGET = Prepared(
    lambda _: delete(trials).where(
        *(trials.c[name] == bindparam(name) for name in ("study", "cell", "rank", "repeat")),
        trials.c.outcome == Outcome.FAILED.name,
    )
)
_INSERT = {table: _into(table) for table in (curves, answers, trials)}
_HOLD = Prepared(
    lambda _: select(studies.c.digest).where(studies.c.digest == bindparam("study")).with_for_update(key_share=True)
)
_LAST = Prepared(lambda _: select(func.max(trials.c.number)).where(trials.c.study == bindparam("study")))
_COUNT = Prepared(
    lambda _: (
        update(runs)
        .where(runs.c.id == bindparam("run"))
        .values(last=bindparam("now"), trials=runs.c.trials + bindparam("more"))
    )
)


def forget_failed(connection: Connection, keys: Sequence[Mapping[str, Any]]) -> None:
    """Of these trials take away those that failed, so that they can be kept anew; they have no curve and no answers."""
    _FORGET.run_for_each(connection, keys)


def keep_trials(
    connection: Connection, study: str, fleet: Sequence[Trial], keys: Sequence[Mapping[str, Any]], run: int
) -> None:
    """Write trials; their numbers follow on the study's last, whose row is held so that no two writers take the same.

    It is held from then on until the transaction ends, so what needs no number is written before.
    """
    both = list(zip(keys, fleet, strict=True))
    _keep(connection, curves, [{**key, **packed(trial)} for key, trial in both if trial.curve])
    given = [
        {**key, "split": split, **_facts(of_split)} for key, trial in both for split, of_split in trial.answers.items()
    ]
    _keep(connection, answers, given)
    _HOLD.run(connection, study=study)
    last = _LAST.run(connection, study=study).scalar() or 0
    now = time()
    rows: list[dict[str, Any]] = [
        {**key, "seed": trial.seed, "outcome": trial.outcome.name, "error": trial.error, "seconds": trial.seconds,
         **(_facts(trial.final) if trial.final else _NO_FIGURES), "run": run, "at": now, "number": number}
        for number, (key, trial) in enumerate(both, last + 1)
    ]  # fmt: skip
    _keep(connection, trials, rows)
    _COUNT.run(connection, run=run, now=now, more=len(fleet))


def _keep(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    _INSERT[table].run_for_each(connection, stamped(table, rows))


def _facts(one: Figures | SplitAnswers) -> dict[str, Any]:
    """As `dataclasses.asdict`, which copies what cannot change at several times the cost."""
    return {name: getattr(one, name) for name in one.__slots__}
