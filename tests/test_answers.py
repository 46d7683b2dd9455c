"""Right or wrong, image by image: what every way of training hands back, what a store keeps, what users get."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from test_fleet import CHAINS, SGD, WAYS, nets
from trueoracle import Study
from trueoracle.data import Dataset
from trueoracle.fleet import evaluated, train_fleet
from trueoracle.store import CellRecord, MaskRecord, Store, StudyRecord
from trueoracle.words.errors import SpecError, StoreError, TableError
from trueoracle.words.progress import Quiet
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, SplitAnswers, Trial, counted_epoch

ASSETS = Path(__file__).parent / "assets"


def plain_right(net: nn.Module, data: Dataset) -> np.ndarray:
    with torch.no_grad():
        return (net(data.test.images_NCHW).argmax(1) == data.test.labels_N).numpy()


def plain_losses(net: nn.Module, data: Dataset) -> np.ndarray:
    with torch.no_grad():
        return nn.functional.cross_entropy(net(data.test.images_NCHW), data.test.labels_N, reduction="none").numpy()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chain", ["wide", "pruned lenet"])
def test_answers_are_those_of_a_plain_forward_pass(chain: str, way: str) -> None:
    make, data = CHAINS[chain]
    for trained in WAYS[way](nets(make, 3), data, SGD):
        answers = trained.answers["test"]
        assert answers.images == len(data.test)
        np.testing.assert_array_equal(answers.right, plain_right(trained.net, data))
        assert answers.right.sum() / len(data.test) == trained.curve[-1].test_accuracy
        np.testing.assert_allclose(answers.loss, plain_losses(trained.net, data), rtol=2e-3, atol=1e-4)
        assert set(trained.answers) == {"test"}


@pytest.mark.parametrize("backend", ["loop", "lanes", "stacked"])
def test_answers_are_those_of_the_epoch_that_counts(backend: str) -> None:
    make, data = CHAINS["pruned lenet"]
    recipe = SGD.model_copy(update={"epochs": 12, "lr": 0.3, "keep": "best_on_test"})
    found = train_fleet(nets(make, 2), data, recipe, 4, backend=backend, final=FinalProtocol.BEST_ON_TEST)
    assert any(len(one.curve) - 1 != counted_epoch(one.curve, FinalProtocol.BEST_ON_TEST) for one in found)
    for one in found:
        np.testing.assert_array_equal(one.answers["test"].right, plain_right(one.net, data))
    last = train_fleet(nets(make, 2), data, recipe, 4, backend=backend)
    for one in last:
        assert one.answers["test"].right.mean() == pytest.approx(one.curve[-1].test_accuracy)


def test_a_base_network_answers_as_its_figures_say() -> None:
    make, data = CHAINS["wide"]
    now = evaluated(nets(make, 1)[0].eval(), data)
    assert now.answers["test"].right.mean() == pytest.approx(now.figures.test_accuracy, abs=1e-12)


@pytest.mark.parametrize("images", [1, 8, 13, 1000])
def test_answers_are_packed_and_come_back(images: int) -> None:
    chance = np.random.default_rng(images)
    right, loss = chance.random(images) < 0.5, chance.random(images) * 3
    packed = SplitAnswers.of(right, loss)
    assert len(packed.bits) == -(-images // 8)
    np.testing.assert_array_equal(packed.right, right)
    np.testing.assert_array_equal(packed.loss, loss.astype(np.float16))
    assert packed.without_losses().loss is None


def test_a_loss_beyond_float16_is_its_largest() -> None:
    packed = SplitAnswers.of(np.array([False, True]), np.array([1e6, 0.25]))
    assert packed.loss is not None
    assert packed.loss.tolist() == [65504.0, 0.25]


def test_the_epoch_that_counts_is_the_first_best_one() -> None:
    curve = [
        Figures(train_loss=1, train_accuracy=0, test_loss=1, test_accuracy=a, validation_loss=1, validation_accuracy=b)
        for a, b in [(0.5, 0.1), (0.7, 0.3), (0.7, 0.4), (0.1, 0.4)]
    ]
    counted = {protocol.value: counted_epoch(curve, protocol) for protocol in FinalProtocol}
    assert counted == {"last": 3, "mean_last_5": 3, "best_on_test": 1, "best_on_validation": 2}


def test_a_study_keeps_the_answers_of_all_trials(finished: Study) -> None:
    trials = finished.trials()
    for cell, rows in trials.groupby("cell", sort=False):
        right = finished.answers(cell)
        masks = rows["mask"].unique()
        assert right.shape == (len(masks), 2, 360)
        assert not np.ma.getmaskarray(right).any()
        accuracies = rows["final_test_accuracy"].to_numpy().reshape(len(masks), 2)
        np.testing.assert_allclose(right.mean(axis=2), accuracies, atol=1e-12)
    np.testing.assert_array_equal(finished.answers(0), finished.answers("conv1-0.5"))
    base = finished.base_answers()
    assert base.mean() == pytest.approx(Store(finished.store_url).base(finished.plan.digest).test_accuracy)


def test_unknown_cells_and_splits_are_refused(finished: Study) -> None:
    with pytest.raises(SpecError, match="unknown cell `conv2-0.5`: did you mean"):
        finished.answers("conv2-0.5")
    with pytest.raises(SpecError, match=r"`cell` must lie in \[0, 2\), but got 2"):
        finished.answers(2)
    with pytest.raises(SpecError, match="unknown split `tset`: did you mean `test`"):
        finished.answers(0, "tset")
    with pytest.raises(StoreError, match="`keep: losses`"):
        finished.losses(0)


def test_losses_are_kept_where_the_study_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    small = {"train.epochs": 1, "train.schedule": "constant", "train.milestones": [], "retrain.epochs": 1,
             "retrain.schedule": "constant", "retrain.milestones": [], "repeats": 1,
             "cells": [{"prune": {"conv1": 0.5}, "draw": 3}], "keep": "losses"}  # fmt: skip
    study = Study("quickstart", set=small, store=url, threads=1, progress=Quiet())
    study.run()
    losses = study.losses("conv1-0.5")
    assert (losses.shape, losses.dtype) == ((3, 1, 360), np.float16)
    np.testing.assert_allclose(losses.mean(axis=2, dtype=float)[:, 0], study.trials()["final_test_loss"], rtol=1e-3)
    with_losses = study.answer_table(tmp_path / "a.parquet")
    assert with_losses == 6
    table = pd.read_parquet(tmp_path / "a.parquet")
    table = table[table["split"] == "test"]
    np.testing.assert_array_equal(np.stack(table["loss"]).astype(np.float16), losses[:, 0])


def test_the_table_of_answers_is_a_row_a_trial_and_split(finished: Study, tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    assert finished.answer_table(path) == 40
    table, trials = pd.read_parquet(path), finished.trials()
    assert list(table) == ["base", "cell", "mask", "repeat", "split", "right"]
    assert set(table["split"]) == {"test", "validation"}
    both = table[table["split"] == "test"].merge(trials, on=["base", "cell", "mask", "repeat"])
    assert len(both) == 20
    np.testing.assert_allclose(np.stack(both["right"]).mean(1), both["final_test_accuracy"])
    with pytest.raises(TableError, match=r"must end in \.parquet"):
        finished.answer_table(tmp_path / "answers.csv")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A store as schema 2 left it: a study of two cells, six masks, twelve trials on the digits."""
    return Path(shutil.copy(ASSETS / "store-schema-2.sqlite", tmp_path / "old.db"))


def test_a_store_of_schema_2_is_brought_forward_and_loses_nothing(older: Path) -> None:
    import sqlite3

    before = sqlite3.connect(older)
    names = ["studies", "bases", "cells", "masks", "trials", "curves", "runs"]
    kept = {name: pd.read_sql(f"SELECT * FROM {name}", before) for name in names}
    before.close()
    url = f"sqlite:///{older}"
    study = Study.stored("quickstart", store=url)
    assert len(study.trials()) == 12
    assert not {"final_validation_loss", "final_validation_accuracy"} & {*study.trials()}
    assert not {"validation_loss", "validation_accuracy"} & {*study.curves()}
    with pytest.raises(StoreError, match="no answers on validation are kept of cell `conv1-0.5`"):
        study.answers(0, "validation")
    assert study.status().left == 0
    with pytest.raises(StoreError, match="no answers on test are kept of cell `conv1-0.5`: .* earlier version"):
        study.answers(0)
    assert Store(url).base_answers(study.plan.digest) is None
    assert Store(url).answers(study.plan.digest, 0) is None
    after = sqlite3.connect(older)
    for name, table in kept.items():
        pd.testing.assert_frame_equal(pd.read_sql(f"SELECT * FROM {name}", after)[list(table)], table)
    assert after.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == ("7",)
    after.close()
    assert Study.stored("quickstart", store=url).trials().equals(study.trials())


def test_a_store_brought_forward_has_the_columns_of_a_new_one(older: Path, tmp_path: Path) -> None:
    from sqlalchemy import create_engine, inspect

    Store(f"sqlite:///{older}")
    Store(f"sqlite:///{tmp_path / 'new.db'}", create=True)
    old, new = (inspect(create_engine(f"sqlite:///{path}")) for path in (older, tmp_path / "new.db"))
    assert set(old.get_table_names()) == set(new.get_table_names())
    for table in new.get_table_names():
        assert {c["name"] for c in old.get_columns(table)} == {c["name"] for c in new.get_columns(table)}


def test_an_older_store_that_may_not_be_written_says_so(older: Path) -> None:
    before = older.read_bytes()
    with pytest.raises(StoreError, match="has schema 2, which must be brought to 7, but it is only read here"):
        Store(f"sqlite:///file:{older}?mode=ro&uri=true")
    assert older.read_bytes() == before


def test_a_study_begun_under_schema_2_goes_on(older: Path) -> None:
    import sqlite3

    with sqlite3.connect(older) as connection:
        connection.execute("DELETE FROM trials WHERE cell = 1 AND repeat = 1")
        connection.execute("DELETE FROM curves WHERE cell = 1 AND repeat = 1")
    connection.close()
    study = Study.stored("quickstart", store=f"sqlite:///{older}")
    before = study.trials()
    study = Study(study.spec, store=study.store_url, threads=1, progress=Quiet())
    study.run()
    right = study.answers(1)
    assert np.ma.getmaskarray(right).all(axis=2).tolist() == [[True, False], [True, False]]
    after = study.trials().dropna(axis=1, how="all")
    merged = before.merge(after, on=[c for c in before if c != "seconds"])
    assert (len(before), len(after), len(merged)) == (10, 12, 10)


def test_trials_know_when_by_which_run_and_as_which_one_they_were_stored(finished: Study) -> None:
    from sqlalchemy import create_engine, text

    with create_engine(finished.store_url).connect() as connection:
        rows = connection.execute(text("SELECT run, at, number FROM trials ORDER BY number")).all()
        (run,) = connection.execute(text("SELECT id FROM runs WHERE trials > 0")).scalars()
    assert [row.number for row in rows] == list(range(1, 21))
    assert {row.run for row in rows} == {run}
    assert [row.at for row in rows] == sorted(row.at for row in rows)


def filled(url: str, masks: int, images: int) -> Store:
    """A store with three repeats of so many masks, their answers by chance."""
    store = Store(url, create=True)
    store.add_study(StudyRecord(digest="d" * 64, name="large", spec="{}"))
    facts = {"loss": 1.0, "accuracy": 0.5, "standard_error": 0.0, "scores": {}}
    store.put_masks("d" * 64, [MaskRecord(cell=0, rank=r, pruned="{}", **facts) for r in range(masks)], digits=4)
    run = store.begin_run("d" * 64, 1, {})
    figures = Figures(train_loss=1.0, train_accuracy=0.5, test_loss=1.0, test_accuracy=0.5)
    for repeat in range(3):
        chance = np.random.default_rng(repeat)
        fleet = [
            Trial(cell=0, mask=rank, repeat=repeat, seed=1, outcome=Outcome.FINISHED, curve=(figures,), final=figures,
                  seconds=1.0, answers={"test": SplitAnswers.of(chance.random(images) < 0.9)})
            for rank in range(masks)
        ]  # fmt: skip
        store.put_trials("d" * 64, fleet, 4, run)
    return store


def test_many_answers_are_read_in_the_memory_of_their_array(tmp_path: Path) -> None:
    import tracemalloc

    masks, images = 200, 10_000
    store = filled(f"sqlite:///{tmp_path / 's.db'}", masks, images)
    assert (tmp_path / "s.db").stat().st_size < 2 * masks * 3 * images / 8
    store.answers("d" * 64, 0)
    tracemalloc.start()
    found = store.answers("d" * 64, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert found.right_MRI.shape == (masks, 3, images)
    assert peak < 1.3 * found.right_MRI.nbytes
    expected = np.random.default_rng(1).random((masks, images)) < 0.9
    np.testing.assert_array_equal(found.right_MRI[:, 1], expected)


def test_answers_are_written_with_their_trial_or_not_at_all(tmp_path: Path) -> None:
    store = filled(f"sqlite:///{tmp_path / 's.db'}", 2, 10)
    figures = Figures(train_loss=1.0, train_accuracy=0.5, test_loss=1.0, test_accuracy=0.5)
    again = [
        Trial(cell=0, mask=mask, repeat=repeat, seed=1, outcome=Outcome.FINISHED, curve=(figures,), final=figures,
              seconds=1.0, answers={"test": SplitAnswers.of(np.zeros(10, bool))})
        for mask, repeat in [(0, 3), (1, 2)]
    ]  # fmt: skip
    with pytest.raises(StoreError):
        store.put_trials("d" * 64, again, 4, run=1)
    found = store.answers("d" * 64, 0)
    assert found is not None
    assert found.known_MR.shape == (2, 3)


def test_seeds_and_costs_of_64_bits_come_back(tmp_path: Path) -> None:
    store = filled(f"sqlite:///{tmp_path / 's.db'}", 1, 8)
    figures = Figures(train_loss=1.0, train_accuracy=0.5, test_loss=1.0, test_accuracy=0.5)
    store.put_cells(
        "d" * 64, [CellRecord(index=0, base=0, name="c", sites={}, space=9, masks=9, parameters=2**40, macs=2**62)]
    )
    large = Trial(cell=0, mask=0, repeat=7, seed=2**63 - 1, outcome=Outcome.FINISHED, curve=(figures,), final=figures,
                  seconds=1.0)  # fmt: skip
    store.put_trials("d" * 64, [large], 4, run=1)
    assert store.cells("d" * 64)[0].macs == 2**62
    assert store.trial_table("d" * 64)["seed"].max() == 2**63 - 1
