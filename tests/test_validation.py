"""A validation split: how it is cut or found, that nothing is trained on it, and what chooses by it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from test_fleet import CHAINS, SGD, images, nets
from test_own_data import encoded, load, picture
from trueoracle import Study
from trueoracle.data import Dataset, StoredSplit, held_out, load_dataset
from trueoracle.fleet import evaluated, train, train_fleet
from trueoracle.study import load_spec, plan, study_data
from trueoracle.words.errors import DataError, SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.trial import FinalProtocol, counted_epoch

FEW = {
    "train.epochs": 4, "train.milestones": [3], "retrain.epochs": 3, "retrain.milestones": [2], "repeats": 1,
    "retrain.lr": 0.05, "cells": [{"prune": {"conv1": 0.5}, "draw": 6}],
}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", None, torch.device("cpu"), Quiet())


@pytest.mark.parametrize(("asked", "count"), [(200, 200), (0.2, 287), (1, 1), (1436, 1436)])
def test_held_out_images_leave_train_and_go_nowhere_else(digits: Dataset, asked: float, count: int) -> None:
    cut = held_out(digits, asked, seed=3)
    assert cut.validation is not None
    assert (len(cut.train), len(cut.validation)) == (1437 - count, count)

    def pixels(split: object) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in split.images_NCHW)  # type: ignore[attr-defined]

    assert sorted(pixels(cut.train) + pixels(cut.validation)) == pixels(digits.train)
    assert cut.test is digits.test


def test_each_class_gives_its_part_by_the_seed(digits: Dataset) -> None:
    cut, again, other = (held_out(digits, 0.2, seed=seed) for seed in (3, 3, 4))
    share = np.bincount(cut.validation.labels_N) / np.bincount(digits.train.labels_N)
    assert np.abs(share - 0.2).max() < 0.01
    assert torch.equal(cut.validation.images_NCHW, again.validation.images_NCHW)
    assert not torch.equal(cut.validation.images_NCHW, other.validation.images_NCHW)


@pytest.mark.parametrize(("images", "takes"), [(1437, 1437), (5000, 5000), (0.0001, 0)])
def test_a_cut_that_leaves_nothing_on_one_side_is_refused(digits: Dataset, images: float, takes: int) -> None:
    with pytest.raises(DataError, match=f"1437 train images of `digits` on either side, but {images} takes {takes}"):
        held_out(digits, images, seed=0)


@pytest.mark.parametrize("value", [0, -3, 1.5, 0.0, 100.0])
def test_what_is_neither_a_number_nor_a_share_is_refused(value: float) -> None:
    with pytest.raises(SpecError, match="must be a number of images or a share in"):
        load_spec("quickstart", {"validation_images": value})


@pytest.mark.parametrize("key", ["final", "train.keep", "retrain.keep"])
def test_choosing_on_validation_needs_one(key: str) -> None:
    change = {"final": "last", "validation_images": None, key: "best_on_validation"}
    with pytest.raises(
        SpecError, match=f"`{key}: best_on_validation` needs a validation split: set `validation_images`"
    ):
        plan(load_spec("quickstart", change))


def test_a_validation_split_is_part_of_the_identity_and_none_is_not() -> None:
    none = load_spec("lenet5-mini-mnist")
    assert load_spec("lenet5-mini-mnist", {"validation_images": None}).digest() == none.digest()
    assert load_spec("lenet5-mini-mnist", {"validation_images": 0.1}).digest() != none.digest()


def with_validation(data: Dataset) -> Dataset:
    """A third split of other images of the same kind, the test images turned back to front."""
    return replace(data, validation=data.test.take(torch.arange(len(data.test) - 1, -1, -1)))


@pytest.mark.parametrize("backend", ["loop", "lanes", "stacked"])
def test_all_ways_evaluate_validation_alike(backend: str) -> None:
    make, data = CHAINS["wide"]
    data = with_validation(data)
    for trained in train_fleet(nets(make, 2), data, SGD, 4, backend=backend):
        assert [one.validation_accuracy for one in trained.curve] == [one.test_accuracy for one in trained.curve]
        for one in trained.curve:
            assert one.validation_loss == pytest.approx(one.test_loss, rel=1e-6)
        answers = trained.answers
        np.testing.assert_array_equal(answers["validation"].right, answers["test"].right[::-1])


@pytest.mark.parametrize("backend", ["loop", "lanes", "stacked"])
def test_the_epoch_that_is_kept_and_counts_can_be_the_best_on_validation(backend: str) -> None:
    make, data = CHAINS["pruned lenet"]
    data = replace(data, validation=images(2, 12, 6, test=70).test)
    recipe = SGD.model_copy(update={"epochs": 12, "lr": 0.3, "keep": "best_on_validation"})
    protocol = FinalProtocol.BEST_ON_VALIDATION
    found = train_fleet(nets(make, 4), data, recipe, 4, backend=backend, final=protocol)
    counted = [counted_epoch(one.curve, protocol) for one in found]
    assert counted != [counted_epoch(one.curve, FinalProtocol.BEST_ON_TEST) for one in found]
    for epoch, one in zip(counted, found, strict=True):
        now = evaluated(one.net, data)
        assert now.figures.validation_accuracy == one.curve[epoch].validation_accuracy
        for split in ("test", "validation"):
            np.testing.assert_array_equal(now.answers[split].right, one.answers[split].right)


def test_validation_images_change_nothing_that_is_trained() -> None:
    make, data = CHAINS["wide"]
    (net,) = nets(make, 1)
    without, having = (train(net, one, SGD, 4) for one in (data, with_validation(data)))
    for one, other in zip(without.net.parameters(), having.net.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = f"sqlite:///{tmp_path_factory.mktemp('validation') / 's.db'}"
    early = {"optimiser": "sgd", "lr": 0.02, "batch_size": 64, "epochs": 1}
    study = Study("quickstart", set={**FEW, "early": early}, store=store, threads=1, progress=Quiet())
    study.run()
    return study


def test_a_study_chooses_on_validation_and_reports_test(chosen: Study) -> None:
    trials, curves = chosen.trials(), chosen.curves()
    for trial in trials.itertuples():
        curve = curves[curves["mask"] == trial.mask].reset_index(drop=True)
        best = curve["validation_accuracy"].idxmax()
        assert trial.final_validation_accuracy == curve["validation_accuracy"][best]
        assert trial.final_test_accuracy == curve["test_accuracy"][best]
        assert trial.final_validation_loss == curve["validation_loss"][best]
    right = chosen.answers(0, "validation")
    assert right.shape == (6, 1, 287)
    np.testing.assert_allclose(right.mean(axis=(1, 2)), trials["final_validation_accuracy"])
    assert chosen.base_answers(split="validation").shape == (287,)


def test_a_network_made_again_is_that_of_the_epoch_that_counts(chosen: Study, digits: Dataset) -> None:
    from trueoracle.nets import weights_from_bytes
    from trueoracle.study import retrained

    base = chosen.plan.nets[0]
    weights_from_bytes(base, chosen.base_weights(), "")
    data, cell = study_data(chosen.plan, digits), chosen.plan.cells[0]
    for rank, trial in chosen.trials().set_index("mask").iloc[:3].iterrows():
        net, final = retrained(chosen.plan, base, cell, cell.space.unrank(int(rank)), 0, data)
        assert final.test_loss == trial["final_test_loss"]
        assert evaluated(net, data).figures.test_loss == pytest.approx(final.test_loss, rel=1e-5)
        assert evaluated(net, data).figures.validation_accuracy == final.validation_accuracy


def test_an_early_accuracy_is_one_on_validation_where_there_is_such_a_split(chosen: Study) -> None:
    trials = chosen.trials()
    assert "early_test_accuracy" not in trials
    assert (trials["early_validation_accuracy"] * 287 % 1).round(6).isin([0, 1]).all()


def test_the_oracle_sees_what_is_trained_on_alone(chosen: Study, digits: Dataset) -> None:
    from trueoracle.nets import evaluate, remove, weights_from_bytes

    data = study_data(chosen.plan, digits)
    assert (len(data.train), len(data.validation or ())) == (1150, 287)
    net = chosen.plan.nets[0]
    weights_from_bytes(net, chosen.base_weights(), "")
    rank = int(chosen.trials()["mask"][0])
    pruned = remove(net, chosen.plan.cells[0].space.unrank(rank), chosen.plan.sites)
    assert evaluate(pruned, data.train).loss == pytest.approx(chosen.trials()["pruned_train_loss"][0], rel=1e-5)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[[str], Path]:
    """Class folders for train, test and one of the names of a third split: two classes of pictures, 6x4."""

    def make(third: str) -> Path:
        levels = iter(range(10, 250, 10))
        for split, count in (("train", 4), ("test", 2), (third, 3)):
            for label in ("cat", "dog"):
                for number in range(count):
                    file = tmp_path / "photos" / split / label / f"{number}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    picture(next(levels)).save(file)
        return tmp_path / "photos"

    return make


@pytest.mark.parametrize("third", ["validation", "val", "valid"])
def test_a_third_folder_of_ones_own_is_the_validation_split(photos: Callable[[str], Path], third: str) -> None:
    data = load(str(photos(third)))
    assert data.validation is not None
    assert (len(data.train), len(data.test), len(data.validation)) == (8, 4, 6)
    assert data.validation.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.fingerprint == load(str(photos(third))).fingerprint


def test_two_validation_folders_are_one_too_many(photos: Callable[[str], Path]) -> None:
    photos("val")
    with pytest.raises(DataError, match="are two validation splits: there must be one"):
        load(str(photos("validation")))


def test_large_images_have_a_validation_split_too(photos: Callable[[str], Path]) -> None:
    data = load_dataset(f"{photos('val')}@4", None, torch.device("cpu"), Quiet(), largest=0)
    assert isinstance(data.validation, StoredSplit)
    assert len(held_out(data, 0.5, 0).validation or ()) == 4


def test_parquet_files_named_val_are_the_validation_split(tmp_path: Path) -> None:
    for name, count in (("train-0", 4), ("test-0", 2), ("val-0", 3)):
        rows = {"image": [encoded(picture(20 * n + 9 * len(name))) for n in range(2 * count)], "label": [0, 1] * count}
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test), len(data.validation or ())) == (8, 4, 6)


def test_a_column_split_may_say_validation(tmp_path: Path) -> None:
    rows = {"image": [encoded(picture(10 * n + 5)) for n in range(8)], "label": [0, 1] * 4,
            "split": ["train"] * 4 + ["test"] * 2 + ["val"] * 2}  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "all.parquet")
    data = load(str(tmp_path / "all.parquet"))
    assert (len(data.train), len(data.test), len(data.validation or ())) == (4, 2, 2)


def test_a_cut_of_the_study_goes_before_a_split_of_the_data(photos: Callable[[str], Path]) -> None:
    folder = str(photos("val"))
    change = {"data": folder, "validation_images": 2, "final": "last"}
    data = load(folder)
    cut = held_out(data, 2, 0)
    assert (len(cut.train), len(cut.validation or ())) == (6, 2)
    assert load_spec("quickstart", change).validation_images == 2


def test_a_class_that_train_lacks_is_refused_in_validation(photos: Callable[[str], Path]) -> None:
    folder = photos("val")
    (folder / "val" / "cow").mkdir()
    picture(77).save(folder / "val" / "cow" / "1.png")
    with pytest.raises(DataError, match="class cow of .* is in the validation split and not in the train split"):
        load(str(folder))


def test_figures_on_validation_are_in_the_trial_table_of_a_user(chosen: Study, tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    assert chosen.answer_table(path) == 12
    table = pd.read_parquet(path)
    assert table.groupby("split").size().to_dict() == {"test": 6, "validation": 6}
    assert {split: len(rows["right"].iloc[0]) for split, rows in table.groupby("split")} == {
        "test": 360,
        "validation": 287,
    }
