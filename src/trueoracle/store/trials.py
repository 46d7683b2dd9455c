"""Trials written: rows, curves and answers together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from time import time
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from trueoracle.store.checksums import stamped
from trueoracle.store.schema import answers, curves, runs, studies, trials
from trueoracle.words.trial import Figures, Outcome, Trial

_NO_FIGURES = dict.fromkeys(Figures.__slots__)
_KEY = ("study", "cell", "rank", "repeat")


def forget_failed(connection: Connection, keys: Sequence[Mapping[str, Any]]) -> None:
    """Of these trials take away those that failed, so that they can be kept anew; they have no curve and no answers."""
    same = [trials.c[name] == bindparam(f"old_{name}") for name in _KEY]
    failed = delete(trials).where(*same, trials.c.outcome == Outcome.FAILED.name)
    connection.execute(failed, [{f"old_{name}": key[name] for name in _KEY} for key in keys])


def keep_trials(
    connection: Connection, study: str, fleet: Sequence[Trial], keys: Sequence[Mapping[str, Any]], run: int
) -> None:
    """Write trials; their numbers follow on the study's last, whose row is held so that no two writers take the same."""
    connection.execute(select(studies.c.digest).where(studies.c.digest == study).with_for_update())
    last = connection.execute(select(func.max(trials.c.number)).where(trials.c.study == study)).scalar() or 0
    now = time()
    both = list(zip(keys, fleet, strict=True))
    rows: list[dict[str, Any]] = [
        {**key, "seed": trial.seed, "outcome": trial.outcome.name, "error": trial.error, "seconds": trial.seconds,
         **(asdict(trial.final) if trial.final else _NO_FIGURES), "run": run, "at": now, "number": number}
        for number, (key, trial) in enumerate(both, last + 1)
    ]  # fmt: skip
    points = [{**key, "epoch": epoch, **asdict(figures)} for key, trial in both for epoch, figures in trial.points]
    given = [
        {**key, "split": split, **asdict(of_split)} for key, trial in both for split, of_split in trial.answers.items()
    ]
    of_tables: tuple[tuple[Table, list[dict[str, Any]]], ...] = ((trials, rows), (curves, points), (answers, given))
    for table, of_table in of_tables:
        if of_table:
            connection.execute(insert(table), stamped(table, of_table))
    count = runs.c.trials + len(fleet)
    connection.execute(update(runs).where(runs.c.id == run).values(last=now, trials=count))
