"""What is measured of a mask beside its raw pruned loss: each form against the steps written out."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trueoracle import Study, StudySpec
from trueoracle.data import Dataset, Split, load_dataset
from trueoracle.fleet import train, train_fleet
from trueoracle.nets import build, channels_last, evaluate, find_sites, recalibrate, remove, weights_from_bytes
from trueoracle.store import Store
from trueoracle.study import Paused, predictors, study_data
from trueoracle.words.errors import DataError, SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
RESNET = {
    "name": "little",
    "model": "resnet20",
    "data": "digits",
    "width_factor": 0.25,
    "train_images": 200,
    "test_images": 100,
    "train": {"optimiser": "sgd", "lr": 0.05, "momentum": 0.9, "batch_size": 50, "epochs": 2},
    "retrain": {"optimiser": "sgd", "lr": 0.01, "momentum": 0.9, "batch_size": 64, "epochs": 2},
    "early": {"optimiser": "sgd", "lr": 0.01, "momentum": 0.9, "batch_size": 64, "epochs": 1},
    "cells": [{"prune": {"layer*.conv1": 0.5}, "draw": 4}],
    "repeats": 2,
    "final": "last",
    "recalibration_images": 120,
    "loss_after_steps": 5,
}
PREDICTORS = ("recalibrated_train_loss", "after_5_steps_train_loss", "early_test_accuracy", "early_area")


def little(store: str, **changes: object) -> Study:
    return Study(StudySpec(**{**RESNET, **changes}), store=store, threads=2, progress=Quiet())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = little(f"sqlite:///{tmp_path_factory.mktemp('predictors') / 's.db'}")
    made.run()
    return made


@pytest.fixture(scope="module")
def data(study: Study) -> Dataset:
    return study_data(study.plan, load_dataset("digits", None, torch.device("cpu"), Quiet()))


def base_of(study: Study) -> torch.nn.Module:
    net = build("resnet20", SHAPE, width_factor=0.25)
    weights_from_bytes(net, study.base_weights(), "stored")
    return net


def test_every_form_is_a_column_of_masks_and_trials_and_a_predictor(study: Study) -> None:
    trials, masks = study.trials(), Store(study.store_url).mask_table(study.plan.digest)
    assert len(trials) == 8
    for name in PREDICTORS:
        assert np.isfinite(masks[name]).all()
        assert trials.groupby("mask")[name].first().tolist() == masks[name].tolist()
        assert study.analyze(x=name)[0].x == name


class Seen:
    """Mean and unbiased variance of each channel of what goes into a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        module.register_forward_pre_hook(self._note)
        self.mean_C = self.variance_C = torch.empty(0)

    def _note(self, module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if module.training:
            self.mean_C = inputs[0].mean((0, 2, 3))
            self.variance_C = inputs[0].var((0, 2, 3), unbiased=True)


def test_recalibrated_equals_statistics_of_what_every_batchnorm_is_fed(study: Study, data: Dataset) -> None:
    net = base_of(study).double()
    (cell,) = study.plan.cells
    order = torch.randperm(200, generator=torch.Generator().manual_seed(study.plan.seed("recalibration", 0)))
    images = data.train.images_NCHW[order[:120]].double()
    kept = Store(study.store_url).mask_table(study.plan.digest).set_index("mask")["recalibrated_train_loss"]
    for mask in cell.masks():
        pruned = remove(net, mask, find_sites(net, SHAPE))
        norms = [module for module in pruned.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        seen = [Seen(norm) for norm in norms]
        pruned.train()
        with torch.no_grad():
            pruned(images)  # one batch: fewer images than a batch holds
        pruned.eval()
        for norm, inputs in zip(norms, seen, strict=True):
            norm.running_mean, norm.running_var = inputs.mean_C, inputs.variance_C
        whole = Split(images_NCHW=data.train.images_NCHW.double(), labels_N=data.train.labels_N)
        wanted = evaluate(pruned, whole).loss
        assert kept[mask.rank] == pytest.approx(wanted, rel=1e-4)


def test_the_average_over_batches_is_plain_and_leaves_the_rest_alone() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout(0.5)).double()
    images = torch.zeros(501, 1, 1, 2, dtype=torch.float64)  # batches of 250, 250 and one image that has no variance
    images[:250, 0, 0, 0] = 2.0
    images[250:500, 0, 0, 0] = 6.0
    images[500] = 1e6
    recalibrate(net, images)
    assert net[0].running_mean.item() == pytest.approx((1 + 3) / 2)
    assert net[0].running_var.item() == pytest.approx((1 + 9) / 2 * 500 / 499)
    assert net[0].momentum == 0.1
    assert not any(module.training for module in net.modules())


def test_after_k_steps_equals_k_steps_written_out(study: Study, data: Dataset) -> None:
    net = base_of(study)
    (cell,) = study.plan.cells
    mask = next(cell.masks())
    pruned = channels_last(remove(net, mask, find_sites(net, SHAPE))).train()
    seed = study.plan.seed("order of the first steps", 0)
    optimiser = torch.optim.SGD(pruned.parameters(), lr=0.01, momentum=0.9)
    # 200 images are batches of 64, 64, 64 and 8: the fifth step opens the second epoch.
    orders = [np.random.default_rng([seed, epoch]).permutation(200) for epoch in (0, 1)]
    batches = [orders[0][start : start + 64] for start in (0, 64, 128, 192)] + [orders[1][:64]]
    for batch in batches:
        optimiser.zero_grad()
        F.cross_entropy(pruned(data.train.images_NCHW[batch]), data.train.labels_N[batch]).backward()
        optimiser.step()
    wanted = evaluate(pruned, data.train).loss
    kept = Store(study.store_url).mask_table(study.plan.digest).set_index("mask")["after_5_steps_train_loss"]
    assert kept[mask.rank] == pytest.approx(wanted, rel=1e-6)


def test_early_accuracy_and_area_are_those_of_their_own_short_training(study: Study, data: Dataset) -> None:
    net = base_of(study)
    (cell,) = study.plan.cells
    mask = next(cell.masks())
    assert study.spec.early is not None
    found = [
        train(
            remove(net, mask, find_sites(net, SHAPE)), data, study.spec.early, study.plan.seed("early order", 0, repeat)
        ).curve
        for repeat in (0, 1)
    ]
    kept = Store(study.store_url).mask_table(study.plan.digest).set_index("mask").loc[mask.rank]
    accuracies, areas = ([curve[-1].test_accuracy for curve in found], [sum(p.train_loss for p in c) for c in found])
    assert kept["early_test_accuracy"] == pytest.approx(sum(accuracies) / 2, abs=1e-12)
    assert kept["early_area"] == pytest.approx(sum(areas) / 2, rel=1e-6)


@pytest.mark.parametrize("backend", ["loop", "lanes"])
def test_a_training_of_fewer_steps_than_an_epoch_ends_there(backend: str) -> None:
    data = load_dataset("digits", None, torch.device("cpu"), Quiet())
    net = build("lenet5-mini", SHAPE)
    whole = Recipe(optimiser="sgd", lr=0.01, batch_size=500, epochs=3)  # three steps an epoch
    for steps, epochs in ((1, 1), (3, 1), (4, 2), (9, 3), (20, 3)):
        recipe = whole.model_copy(update={"steps": steps})
        (found,) = train_fleet([net], data, recipe, 7, backend=backend)  # type: ignore[arg-type]
        assert len(found.curve) == recipe.epochs_begun(len(data.train)) == epochs
    (all_steps,) = train_fleet([net], data, whole, 7, backend=backend)  # type: ignore[arg-type]
    assert found.curve == all_steps.curve


def test_what_was_measured_before_a_kill_is_not_measured_again(study: Study, tmp_path: Path, monkeypatch) -> None:
    calls = []

    def counting(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        recalibrate(*arguments)  # type: ignore[arg-type]

    store = f"sqlite:///{tmp_path / 's.db'}"
    with monkeypatch.context() as patched:
        patched.setattr(predictors, "recalibrate", counting)
        with pytest.raises(Paused):
            Study(study.spec, store=store, threads=1, progress=Quiet()).run()
    resumed = Study(study.spec, store=store, threads=1, progress=Quiet())
    known = Store(store).mask_table(resumed.plan.digest)["recalibrated_train_loss"]
    assert known.notna().sum() == 2
    resumed.run()
    drop = ["seconds"]
    assert resumed.trials().drop(columns=drop).equals(study.trials().drop(columns=drop))


def test_without_batchnorm_recalibrating_is_refused() -> None:
    with pytest.raises(SpecError, match="`lenet5-mini` has no BatchNorm to recalibrate: leave `recalibration_images`"):
        Study("quickstart", set={"recalibration_images": 100})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"recalibration_images": 201}, SpecError, r"`recalibration_images` must lie in \[2, 200\], but got 201"),
        ({"train_images": 5000}, DataError, "`train_images` must be at most 1437, all that `digits` has, but got 5000"),
        ({"test_images": 361}, DataError, "`test_images` must be at most 360"),
    ],
)
def test_more_images_than_there_are_leave_no_store_behind(tmp_path: Path, change, error, message: str) -> None:
    path = tmp_path / "s.db"
    with pytest.raises(error, match=message):
        little(f"sqlite:///{path}", **change).run()
    assert not path.exists()


def test_a_short_training_that_diverges_has_no_number(tmp_path: Path) -> None:
    wild = {"optimiser": "sgd", "lr": 1e9, "batch_size": 64, "epochs": 1}
    made = little(f"sqlite:///{tmp_path / 's.db'}", early=wild, repeats=1, recalibration_images=None)
    made.run()
    column = Store(made.store_url).mask_table(made.plan.digest)["early_test_accuracy"]
    assert all(math.isnan(value) for value in column)
