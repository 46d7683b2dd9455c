"""The store: what is kept, what is refused, and that a no leaves everything as it was."""

import os
import sqlite3
from pathlib import Path

import pytest

from conftest import TINY
from trueoracle import Study
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import CellRecord, MaskRecord, Store, StudyRecord, store_exists
from trueoracle.words.errors import StoreAway, StoreError
from trueoracle.words.progress import Quiet
from trueoracle.words.trial import Figures, Outcome, Trial

STUDY = StudyRecord(digest="d" * 64, name="one", spec="{}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def store(path: Path) -> Store:
    store = Store(f"sqlite:///{path}", create=True)
    store.add_study(STUDY)
    return store


def trial(outcome: Outcome, mask: int = 0) -> Trial:
    figures = Figures(train_loss=1.0, train_accuracy=0.5, test_loss=2.0, test_accuracy=0.25)
    finished = outcome is Outcome.FINISHED
    return Trial(cell=0, mask=mask, repeat=0, seed=7, outcome=outcome, curve=(figures,) * finished,
                 final=figures if finished else None, seconds=0.5, error="" if finished else "it broke")  # fmt: skip


def test_a_failed_trial_is_replaced_and_a_finished_one_never(store: Store) -> None:
    run = store.begin_run(STUDY.digest, 1, {})
    store.put_trials(STUDY.digest, [trial(Outcome.FAILED)], digits=2, run=run)
    assert store.settled(STUDY.digest) == set()
    assert (store.status(STUDY.digest, 3).failed, store.status(STUDY.digest, 3).left) == (1, 3)
    store.put_trials(STUDY.digest, [trial(Outcome.FINISHED)], digits=2, run=run)
    assert store.settled(STUDY.digest) == {(0, 0, 0)}
    assert store.status(STUDY.digest, 3).failed == 0
    with pytest.raises(StoreError):
        store.put_trials(STUDY.digest, [trial(Outcome.DIVERGED)], digits=2, run=run)
    assert store.status(STUDY.digest, 3).finished == 1


def test_ranks_beyond_64_bits_come_back_whole_and_in_order(store: Store) -> None:
    ranks = [3, 10**30, 2**64]
    records = [
        MaskRecord(cell=0, rank=r, pruned="{}", loss=1.0, accuracy=0.5, standard_error=0.0, scores={}) for r in ranks
    ]
    store.put_masks(STUDY.digest, records, digits=31)
    assert list(store.masks(STUDY.digest, 0)) == [3, 2**64, 10**30]


def test_a_study_is_found_by_name_or_digest(store: Store) -> None:
    assert store.find("one") == store.find("dddddd") == STUDY
    with pytest.raises(StoreError, match="unknown study `on`: did you mean `one`"):
        store.find("on")
    store.add_study(StudyRecord(digest="e" * 64, name="one", spec="{}"))
    with pytest.raises(StoreError, match="2 studies are called `one`: name one by its digest, dddddd"):
        store.find("one")


def test_a_study_kept_under_another_name_keeps_that_name(store: Store) -> None:
    assert store.add_study(StudyRecord(digest=STUDY.digest, name="other", spec="{}")).name == "one"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("99", "has schema 99, newer than this trueoracle's 7: update trueoracle"),
        ("1", "has schema 1, older than this trueoracle's 7: read it with the version that wrote it"),
    ],
)
def test_a_store_of_another_schema_is_refused(store: Store, path: Path, version: str, message: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Store(store.url, create=True)
    assert path.read_bytes() == before


def test_an_empty_file_is_no_store_yet(tmp_path: Path) -> None:
    path = tmp_path / "killed-before-the-first-transaction.db"
    path.touch()
    url = f"sqlite:///{path}"
    assert not store_exists(url)
    with pytest.raises(StoreError, match="there is no store at"):
        Store(url)
    Store(url, create=True).add_study(STUDY)
    assert store_exists(url)


def test_a_locked_store_says_so(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueoracle.store.dialects.LOCK_SECONDS", 0.1)
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreAway, match="is locked by another process"):
        Store(store.url).add_study(StudyRecord(digest="f" * 64, name="two", spec="{}"))
    assert Store(store.url).find("one") == STUDY  # who only reads need not wait
    other.rollback()
    other.close()
    assert Store(store.url).find("one") == STUDY


def test_a_read_only_store_says_so(store: Store, path: Path) -> None:
    uri = f"sqlite:///file:{path}?mode=ro&uri=true"
    with pytest.raises(StoreError, match="is read-only: nothing was written"):
        Store(uri).add_study(StudyRecord(digest="f" * 64, name="two", spec="{}"))
    assert [s.name for s in store.studies()] == ["one"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_file_that_may_not_be_written_says_so(store: Store, path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(StoreError, match="is read-only: nothing was written"):
        store.add_study(StudyRecord(digest="f" * 64, name="two", spec="{}"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the folder of the store `.*nowhere/s.db` does not exist"):
        Store(f"sqlite:///{tmp_path}/nowhere/s.db", create=True)


def test_a_study_goes_on_only_with_the_data_it_began_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def study() -> Study:
        return Study("quickstart", set=TINY, store=f"sqlite:///{path}", threads=1, progress=Quiet())

    class Enough(Exception):
        pass

    def no_trial(*_: object) -> None:
        raise Enough

    with monkeypatch.context() as patched:
        patched.setattr(Store, "begin_run", no_trial)
        with pytest.raises(Enough):
            study().run()
    monkeypatch.setattr("trueoracle.data.digits._SPLIT_SEED", 1)
    with pytest.raises(StoreError, match="the study was begun on other data than `digits` holds now"):
        study().run()


def test_ranks_may_have_eleven_thousand_digits(store: Store) -> None:
    space = MaskSpace(tuple(SiteChoice(site=f"fc{i}", units=3072, pruned=1536) for i in range(12)))
    ranks = space.draw(2, seed=0)
    cell = CellRecord(index=0, base=0, name="all", sites={}, space=space.count, masks=2, parameters=1, macs=1)
    store.put_cells(STUDY.digest, [cell])
    records = [
        MaskRecord(cell=0, rank=r, pruned="{}", loss=1.0, accuracy=0.5, standard_error=0.0, scores={}) for r in ranks
    ]
    store.put_masks(STUDY.digest, records, len(str(space.count - 1)))
    assert store.cells(STUDY.digest)[0].space == space.count > 10**11_000
    assert tuple(store.masks(STUDY.digest, 0)) == ranks
