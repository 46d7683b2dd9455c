"""What every store keeps to, on SQLite and on PostgreSQL: made once, claimed once, written once."""

import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from databases import url  # noqa: F401 - a fixture
from made_up import made_up_study
from test_store import STUDY, trial
from trueoracle import Study
from trueoracle.store import CellRecord, Claim, MaskRecord, Piece, Store
from trueoracle.store.browse import curves_of_mask
from trueoracle.store.records import Tally
from trueoracle.words.errors import StoreError
from trueoracle.words.progress import Quiet
from trueoracle.words.trial import Figures, Outcome

ASSETS = Path(__file__).parent / "assets"
PIECES = [Piece(cell=0, start=start, stop=start + 2) for start in range(0, 40, 2)]


@pytest.fixture
def store(url: str) -> Store:  # noqa: F811
    store = Store(url, create=True)
    store.add_study(STUDY)
    store.open_stage(STUDY.digest, "retraining", lambda: PIECES)
    return store


def claimed(store: Store, **words: object) -> Claim:
    found = store.claim(STUDY.digest, "retraining", "me", **words)  # type: ignore[arg-type]
    assert found is not None
    return found


MAKE = """
import sys
from trueoracle.store import Store, StudyRecord
sys.stdin.readline()
store = Store(sys.argv[1], create=True)
store.add_study(StudyRecord(digest="d" * 64, name="one", spec="{}"))
"""


def test_eight_processes_that_make_one_store_at_once_all_find_it_made(url: str) -> None:  # noqa: F811
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", MAKE, url], stdin=pipe, stderr=pipe, text=True) for _ in range(8)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate()[1] for process in started]
    assert told == [""] * 8
    assert [study.name for study in Store(url).studies()] == ["one"]


def test_claimers_at_once_never_get_the_same_piece(store: Store) -> None:
    def all_that_can_be_had(_: int) -> list[Claim]:
        own = Store(store.url)
        return list(iter(lambda: own.claim(STUDY.digest, "retraining", "me"), None))

    with ThreadPoolExecutor(6) as pool:
        found = [one for some in pool.map(all_that_can_be_had, range(6)) for one in some]
    assert sorted(one.piece.start for one in found) == [piece.start for piece in PIECES]
    assert len({one.token for one in found}) == len(PIECES)


def test_a_piece_is_free_again_when_its_time_is_over_and_not_before(store: Store) -> None:
    first = claimed(store, seconds=-1.0)
    again = claimed(store)
    assert again.piece == first.piece
    assert claimed(store).piece == PIECES[1]
    store.prolong([again], seconds=-1.0)
    assert claimed(store).piece == PIECES[0]


def test_who_looks_on_reads_all_and_writes_nothing(store: Store) -> None:
    onlooker = Store.for_reading(store.url, 5)
    assert onlooker.studies() == [STUDY]
    assert onlooker.pieces_left(STUDY.digest) == len(PIECES)
    with pytest.raises(StoreError):
        onlooker.add_study(replace(STUDY, digest="e" * 64))
    with pytest.raises(StoreError):
        onlooker.claim(STUDY.digest, "retraining", "me")
    assert store.studies() == [STUDY]
    assert store.in_flight(STUDY.digest) == []


def test_a_question_that_takes_too_long_is_broken_off(store: Store) -> None:
    counts = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000) SELECT max(i) FROM n"
    with pytest.raises(StoreError, match="takes too long"):
        Store.for_reading(store.url, 0.1).read(text(counts))  # type: ignore[arg-type]
    assert store.studies() == [STUDY]


def test_who_has_lost_a_piece_cannot_prolong_give_back_or_settle_it(store: Store) -> None:
    late = claimed(store, seconds=-1.0)
    holder = claimed(store)
    store.prolong([late])
    store.give_back([late])
    run = store.begin_run(STUDY.digest, 1, {})
    assert not store.put_trials(STUDY.digest, [trial(Outcome.FINISHED)], 2, run, claim=late)
    assert not store.settle(late)
    assert store.settled(STUDY.digest) == set()
    assert store.put_trials(STUDY.digest, [trial(Outcome.FINISHED)], 2, run, claim=holder)
    assert store.settled(STUDY.digest) == {(0, 0, 0)}
    assert not store.put_trials(STUDY.digest, [trial(Outcome.FINISHED)], 2, run, claim=holder)
    assert store.pieces_left(STUDY.digest, "retraining") == len(PIECES) - 1


def test_a_worker_that_is_known_to_be_dead_is_not_waited_for(store: Store) -> None:
    store.claim(STUDY.digest, "retraining", "the dead")
    assert [one.worker for one in store.in_flight(STUDY.digest)] == ["the dead"]
    assert claimed(store, dead=["the dead"]).piece == PIECES[0]
    assert [one.worker for one in store.in_flight(STUDY.digest)] == ["me"]


def test_what_is_given_back_is_claimed_next(store: Store) -> None:
    first = claimed(store)
    store.give_back([first])
    assert claimed(store).piece == first.piece


def test_a_stage_is_listed_once_and_anew_when_it_is_done(store: Store) -> None:
    store.open_stage(STUDY.digest, "retraining", lambda: pytest.fail("it is listed already"))
    while (one := store.claim(STUDY.digest, "retraining", "me")) is not None:
        store.settle(one)
    store.open_stage(STUDY.digest, "retraining", lambda: PIECES[:3])
    assert store.pieces_left(STUDY.digest) == 3


def test_a_finished_trial_is_written_exactly_once_by_writers_at_once(store: Store) -> None:
    run = store.begin_run(STUDY.digest, 1, {})

    def write(_: int) -> bool:
        try:
            return Store(store.url).put_trials(STUDY.digest, [trial(Outcome.FINISHED, mask=3)], 2, run)
        except StoreError:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(write, range(6))) == 1
    assert store.status(STUDY.digest, 1).finished == 1


def test_trials_are_numbered_through_whoever_writes_them(store: Store) -> None:
    runs = [store.begin_run(STUDY.digest, 1, {}) for _ in range(4)]

    def write(worker: int) -> None:
        own = Store(store.url)
        for mask in range(worker * 5, worker * 5 + 5):
            own.put_trials(STUDY.digest, [trial(Outcome.FINISHED, mask=mask)], 2, runs[worker])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    numbers = store.read(text("SELECT number FROM trials ORDER BY number"))  # type: ignore[arg-type]
    assert [row[0] for row in numbers] == list(range(1, 21))
    assert [run.trials for run in store.runs(STUDY.digest)] == [5] * 4


def test_the_latest_finished_trials_tell_what_one_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueoracle.store.sql._LATEST", 2)
    run = store.begin_run(STUDY.digest, 1, {})
    assert store.tallies() == {}
    for mask, seconds in enumerate((100.0, 2.0, 4.0)):
        store.put_trials(STUDY.digest, [replace(trial(Outcome.FINISHED, mask=mask), seconds=seconds)], 2, run)
    store.put_trials(STUDY.digest, [trial(Outcome.DIVERGED, mask=3)], 2, run)
    assert store.tallies() == {STUDY.digest: Tally(trials=3, mean_seconds=3.0)}


def test_tables_are_the_same_in_parts_and_whole(url: str) -> None:  # noqa: F811
    store = Store(url, create=True)
    study = made_up_study(store, 30)
    whole = store.trial_table(study.digest)
    assert len(whole) == 60
    parts = list(store.trial_parts(study.digest, rows=7))
    assert [len(part) for part in parts] == [7] * 8 + [4]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    assert list(whole["mask"][:30]) == sorted(whole["mask"][:30])
    curves = store.curve_table(study.digest)
    pd.testing.assert_frame_equal(pd.concat(store.curve_parts(study.digest, rows=11), ignore_index=True), curves)
    assert len(store.mask_table(study.digest)) == 60


def test_scores_added_by_many_at_once_are_all_kept(store: Store) -> None:
    mask = MaskRecord(cell=0, rank=1, pruned="{}", loss=-0.0, accuracy=1, standard_error=0.0, scores={"a": 0.5})
    store.put_masks(STUDY.digest, [mask], 2)
    store.put_masks(STUDY.digest, [replace(mask, loss=2.0)], 2)  # it is kept already

    def add(number: int) -> None:
        Store(store.url).add_scores(STUDY.digest, 0, f"s{number}", {1: float(number)}, 2)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(6)))
    assert store.evaluated(STUDY.digest, 0) == {1: (0.0, 1.0, 0.0)}
    assert all(store.unscored(STUDY.digest, 0, f"s{number}") == [] for number in range(6))


@pytest.mark.parametrize(
    ("change", "ask"),
    [
        ("UPDATE trials SET test_accuracy = test_accuracy + 0.0001 WHERE number = 1", "trial_table"),
        ("UPDATE masks SET loss = loss + 0.0001", "trial_table"),
        ("UPDATE masks SET scores = '{\"x\": 1}'", "mask_table"),
        ("UPDATE learning_curves SET every = 2", "curve_table"),
        ("UPDATE learning_curves SET width = 2", "curve_table"),
        ("UPDATE cells SET name = 'another'", "cells"),
        ("UPDATE bases SET test_accuracy = 0.5", "base"),
    ],
)
def test_a_row_that_is_not_as_it_was_written_is_refused(url: str, change: str, ask: str) -> None:  # noqa: F811
    store = Store(url, create=True)
    study = made_up_study(store, 4)
    getattr(store, ask)(study.digest)
    with store._engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(StoreError, match="the store is damaged: a row of `.*` is not as it was written"):
        getattr(store, ask)(study.digest)


def test_flipped_bits_are_refused_or_harmless_and_never_other_numbers(tmp_path: Path) -> None:
    """One bit or forty at a time, anywhere in the file: what is read is what was written, or less, or nothing at all."""
    path = tmp_path / "whole.db"
    store = Store(f"sqlite:///{path}", create=True)
    digest = made_up_study(store, 40).digest
    calm = store.trial_table(digest)
    store._engine.dispose()
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = {"refused": 0, "harmless": 0}
    for attempt in range(60):
        damaged = bytearray(content)
        bits = (1, 40)[attempt % 2]
        for place, bit in zip(rng.integers(0, len(content), bits), rng.integers(0, 8, bits), strict=True):
            damaged[place] ^= 1 << bit
        other = tmp_path / f"{attempt}.db"
        other.write_bytes(damaged)
        try:
            found = Store(f"sqlite:///{other}").trial_table(digest)
        except StoreError:
            outcomes["refused"] += 1
            continue
        rows = found.merge(calm.drop_duplicates(), how="left", indicator=True)
        assert (rows["_merge"] == "both").all(), attempt
        outcomes["harmless"] += 1
    assert min(outcomes.values()) > 0, outcomes


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_stores_of_every_earlier_schema_are_brought_forward(tmp_path: Path, version: int) -> None:
    older = Path(shutil.copy(ASSETS / f"store-schema-{version}.sqlite", tmp_path / "old.db"))
    before = sqlite3.connect(older)
    names = ["studies", "bases", "cells", "masks", "trials", "curves", "runs"]
    kept = {name: pd.read_sql(f"SELECT * FROM {name}", before) for name in names}
    before.close()
    store = f"sqlite:///{older}"

    def opened(_: int) -> int:
        return len(Store(store, create=True).studies())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [1] * 4
    study = Study.stored("quickstart", store=store)
    assert len(study.trials()) == 12
    assert study.run().left == 0
    after = sqlite3.connect(older)
    for name, table in kept.items():
        pd.testing.assert_frame_equal(pd.read_sql(f"SELECT * FROM {name}", after)[list(table)], table)
    after.close()


def test_curves_come_back_as_they_were_whether_validated_or_not_each_epoch_or_every_third(store: Store) -> None:
    run = store.begin_run(STUDY.digest, 1, {})
    cell = CellRecord(index=0, base=0, name="c", sites={}, space=90, masks=2, parameters=1, macs=1)
    store.put_cells(STUDY.digest, [cell])
    numbers = iter(0.1 * n for n in range(100))
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")

    def made(names: tuple[str, ...]) -> Figures:
        return Figures(**{name: next(numbers) for name in names})

    plain = [made(names) for _ in range(3)]
    validated = [made((*names, "validation_loss", "validation_accuracy")) for _ in range(2)]
    trials = [
        replace(trial(Outcome.FINISHED, 5), curve=tuple(plain), every=3),
        replace(trial(Outcome.DIVERGED, 7), curve=tuple(validated), final=None),
        replace(trial(Outcome.DIVERGED, 8), curve=(), final=None),
    ]
    store.put_trials(STUDY.digest, trials[:1], 2, run)
    assert not {"validation_loss", "validation_accuracy"} & {*store.curve_table(STUDY.digest)}
    store.put_trials(STUDY.digest, trials[1:], 2, run)
    assert [one.curve for one in store.whole_trials(STUDY.digest, 0)] == [one.curve for one in trials]
    assert [one.every for one in store.whole_trials(STUDY.digest, 0)] == [3, 1, 1]
    table = store.curve_table(STUDY.digest)
    assert table[["mask", "epoch"]].values.tolist() == [[5, 3], [5, 6], [5, 9], [7, 1], [7, 2]]
    for name in Figures.__slots__:
        expected = [getattr(one, name) for one in (*plain, *validated)]
        np.testing.assert_array_equal(table[name].astype(float), np.array(expected, float))
    assert [point.epoch for point in curves_of_mask(store, STUDY.digest, 0, 5)] == [3, 6, 9]


def test_curves_of_an_earlier_schema_stand_among_new_ones(tmp_path: Path) -> None:
    """Half of the trials of a store of schema 5 are taken away and run anew: their curves are the same, in their places."""
    older = Path(shutil.copy(ASSETS / "store-schema-5.sqlite", tmp_path / "old.db"))
    study = Study.stored("quickstart", store=f"sqlite:///{older}", threads=1, progress=Quiet())
    before, whole = study.curves(), Store(study.store_url).whole_trials(study.plan.digest, 1)
    connection = sqlite3.connect(older)
    for table in ("trials", "curves", "answers"):
        connection.execute(f"DELETE FROM {table} WHERE repeat = 1")
    connection.commit()
    connection.close()
    assert len(study.curves()) == len(before) // 2
    study.run()
    pd.testing.assert_frame_equal(study.curves(), before)
    again = Store(study.store_url).whole_trials(study.plan.digest, 1)
    assert [(one.mask, one.repeat, one.curve) for one in again] == [(one.mask, one.repeat, one.curve) for one in whole]
    mask = int(before["mask"].iloc[0])
    shown = curves_of_mask(Store(study.store_url), study.plan.digest, 0, mask)
    of_mask = before[(before["mask"] == mask) & (before["cell"] == before["cell"].iloc[0])]
    assert [point.train_loss for point in shown] == of_mask["train_loss"].tolist()


def test_a_newer_store_is_refused_in_words(store: Store) -> None:
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE meta SET value = '99' WHERE key = 'schema'"))
    with pytest.raises(StoreError, match="has schema 99, newer than this trueoracle's"):
        Store(store.url)


def test_a_server_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(StoreError, match="postgresql://nobody@localhost:1/none failed: connection failed"):
        Store("postgresql://nobody@localhost:1/none")


@pytest.mark.parametrize("address", ["mysql://host/name", "nonsense", "postgresql+asyncpg://host/name"])
def test_what_is_no_store_is_one_line(address: str) -> None:
    with pytest.raises(StoreError, match=r"is no store: a store is named like|needs a driver for PostgreSQL"):
        Store(address)


@pytest.mark.skipif(os.name != "posix", reason="folders without write permission")
def test_an_archived_store_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    study = made_up_study(store, 3)
    store._engine.dispose()
    monkeypatch.setattr(os, "access", lambda *_: False)  # what a folder says of which nothing may be written
    archived = Store(store.url)
    assert len(archived.trial_table(study.digest)) == 6
    with pytest.raises(StoreError, match="is read-only: nothing was written"):
        archived.add_study(STUDY)
