"""A curve that is taken every few epochs: the points of the whole one, wherever it goes from there."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from trueoracle import Study
from trueoracle.data import Dataset, load_dataset, subset
from trueoracle.fleet import Stopped, checkpoint, train_fleet
from trueoracle.nets import build
from trueoracle.report.curves import curves
from trueoracle.report.findings import find
from trueoracle.selection.rungs import shortened
from trueoracle.store import Store
from trueoracle.study.predictors import short_trainings
from trueoracle.truth import TruthTable, restore
from trueoracle.truth import build as build_table
from trueoracle.words.errors import SpecError
from trueoracle.words.known import Backend
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, Trial

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
RECIPE = Recipe(optimiser="sgd", lr=0.02, momentum=0.9, batch_size=64, epochs=6)
BACKENDS: list[Backend] = ["loop", "lanes", "stacked"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return subset(load_dataset("digits", None, torch.device("cpu"), Quiet()), 200, 40, 0)


def sparse(recipe: Recipe = RECIPE, every: int = 2) -> Recipe:
    return recipe.model_copy(update={"evaluate_every": every})


@pytest.mark.parametrize("backend", BACKENDS)
def test_its_points_and_its_last_network_are_those_of_the_whole_curve(backend: Backend, data: Dataset) -> None:
    nets = [build("lenet5-mini", SHAPE, seed) for seed in range(2)]
    whole = train_fleet(nets, data, RECIPE, 3, backend=backend)
    few = train_fleet(nets, data, sparse(), 3, backend=backend)
    for a, b in zip(whole, few, strict=True):
        assert b.curve == a.curve[1::2]
        assert b.answers == a.answers
        for x, y in zip(a.net.parameters(), b.net.parameters(), strict=True):
            assert torch.equal(x, y)


def test_the_best_is_the_best_of_its_points(data: Dataset) -> None:
    (found,) = train_fleet([build("lenet5-mini", SHAPE, 0)], data, sparse(every=3), 3, final=FinalProtocol.BEST_ON_TEST)
    best = max(found.curve, key=lambda point: point.test_accuracy)
    assert len(found.curve) == 2
    assert found.answers["test"].right.mean() == pytest.approx(best.test_accuracy)


def test_what_diverges_is_noticed_at_the_next_point(data: Dataset) -> None:
    hot = Recipe(optimiser="sgd", lr=1e4, batch_size=64, epochs=4, evaluate_every=2)
    (found,) = train_fleet([build("lenet5-mini", SHAPE, 0)], data, hot, 3)
    assert found.outcome is Outcome.DIVERGED
    assert found.curve == ()


def test_cut_off_between_its_points_it_goes_on(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_TIMES_THE_WRITING", 0)
    nets = [build("lenet5-mini", SHAPE, seed) for seed in range(2)]
    calm = train_fleet(nets, data, sparse(every=3), 3, backend="loop")
    lived: list[int] = []
    cuts = 0
    for _ in range(60):
        lived.clear()
        left = iter(range(7))
        try:
            found = train_fleet(
                nets, data, sparse(every=3), 3, backend="loop", checkpoints=tmp_path, on_epoch=lived.append,
                stop=lambda: next(left, None) is None,  # noqa: B023 - asked in this turn alone
            )  # fmt: skip
            break
        except Stopped:
            cuts += 1
    assert cuts > 2
    assert [one.curve for one in found] == [one.curve for one in calm]
    assert sum(lived) == 12  # epochs of two networks, those before the cut told again


SET: dict[str, Any] = {
    "train.epochs": 4, "train.milestones": [3], "train.evaluate_every": 2, "retrain.epochs": 4, "retrain.milestones": [3],
    "retrain.evaluate_every": 2, "cells": [{"prune": {"conv1": 0.2}, "draw": 4}], "repeats": 1, "final": "last",
    "early": {"optimiser": "sgd", "lr": 0.002, "batch_size": 64, "epochs": 2, "evaluate_every": 2}, "loss_after_steps": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = f"sqlite:///{tmp_path_factory.mktemp('every') / 'store.db'}"
    study = Study("quickstart", set=SET, store=store, threads=1, progress=Quiet())
    study.run()
    return study


def test_a_study_holds_the_epochs_that_were_evaluated(study: Study) -> None:
    table, trials = study.curves(), study.trials()
    assert len(trials) == 4
    assert table.groupby("mask")["epoch"].apply(list).tolist() == [[2, 4]] * 4
    final = table[table["epoch"] == 4].set_index("mask")["test_accuracy"]
    assert final.to_dict() == trials.set_index("mask")["final_test_accuracy"].to_dict()


def test_the_area_counts_every_epoch(study: Study) -> None:
    steps, early = short_trainings(study.spec, validation=False)
    assert steps.recipe.evaluate_every == 1
    (one, *_) = study.curves().to_dict("records")
    point = Figures(**{name: one.get(name) for name in Figures.__slots__})
    trial = Trial(
        cell=0,
        mask=0,
        repeat=0,
        seed=0,
        outcome=Outcome.FINISHED,
        curve=(point, point),
        final=point,
        seconds=0,
        every=2,
    )
    assert trial.epochs == 4
    assert early.figures["early_area"](trial) == pytest.approx(4 * point.train_loss)


def test_its_report_draws_the_epochs_where_they_are(study: Study) -> None:
    (cell,) = find(Store(study.store_url), study.plan.digest, Quiet()).cells
    assert cell.curves.epochs_E1.tolist() == [0, 2, 4]
    loss, accuracy = curves(cell)
    assert "over 4 epochs" in loss.svg
    assert "after epoch 2 to" in accuracy.svg
    assert (accuracy.across.low, accuracy.across.high) == (2, 4)


def test_it_comes_back_from_a_table(study: Study, tmp_path: Path) -> None:
    build_table(tmp_path / "t", Store(study.store_url), ["quickstart"], Quiet(), version="1.0.0")
    store = Store(f"sqlite:///{tmp_path / 'back.db'}", create=True)
    digest = restore(TruthTable(tmp_path / "t"), "quickstart", store, Quiet())
    pd.testing.assert_frame_equal(store.curve_table(digest), Store(study.store_url).curve_table(digest), rtol=1e-7)


def test_a_shorter_rung_is_evaluated_at_its_end_too() -> None:
    for epochs in (1, 2, 3, 4, 6):
        short = shortened(sparse(), epochs)
        assert short.epochs % short.evaluate_every == 0
        assert short.evaluate_every == math.gcd(2, epochs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"retrain.evaluate_every": 3}, "`evaluate_every` must divide `epochs`, 4, but got 3"),
        ({"retrain.evaluate_every": 0}, "greater than or equal to 1"),
        ({"retrain.steps": 5}, "`evaluate_every` is for whole epochs, but `steps` end the training within one"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Study("quickstart", set=SET | change, progress=Quiet())
