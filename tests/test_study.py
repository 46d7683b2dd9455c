from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from conftest import TINY
from trueoracle import Study
from trueoracle.store import Store
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet

# The package exports the function of the same name, so the module is found by its full name.
retrain = import_module("trueoracle.study.retrain")


def table(study: Study) -> pd.DataFrame:
    return study.trials().drop(columns="seconds")


def test_a_finished_study_has_every_trial_once(finished: Study) -> None:
    assert finished.status().finished == finished.status().total == 20
    trials = finished.trials()
    assert not trials.duplicated(["cell", "mask", "repeat"]).any()
    assert list(trials.columns) == [
        "study", "base", "cell", "mask", "pruned", "repeat", "seed", "pruned_train_loss", "pruned_train_accuracy",
        "final_train_loss", "final_test_loss", "final_test_accuracy", "final_validation_loss",
        "final_validation_accuracy", "outcome", "seconds", "l1", "l2", "random",
    ]  # fmt: skip
    assert len(finished.curves()) == 20 * 2


def test_the_store_knows_the_sites_and_the_classes(finished: Study) -> None:
    store = Store(finished.store_url)
    assert [cell.sites for cell in store.cells(finished.plan.digest)] == [{"conv1": (10, 5)}, {"conv3": (10, 8)}]
    base = store.base(finished.plan.digest)
    assert base is not None
    assert base.classes == 10
    assert store.base(finished.plan.digest, 1) is None


def test_seeds_depend_on_the_repeat_alone(finished: Study) -> None:
    assert (finished.trials().groupby("repeat")["seed"].nunique() == 1).all()
    assert finished.trials()["seed"].nunique() == 2


def test_the_same_study_gives_the_same_table_with_another_number_of_threads(finished: Study, tmp_path) -> None:
    again = Study("quickstart", set=TINY, store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet())
    again.run()
    pd.testing.assert_frame_equal(table(again), table(finished), check_exact=True)


def test_a_diverging_network_is_an_outcome(tmp_path) -> None:
    wild = {**TINY, "retrain.lr": 1e6, "repeats": 1}
    study = Study("quickstart", set=wild, store=f"sqlite:///{tmp_path / 's.db'}", threads=2, progress=Quiet())
    status = study.run()
    assert status.diverged == status.total == 10
    assert status.left == 0
    assert set(study.trials()["outcome"]) == {"diverged: the loss became infinite or not a number"}


def test_with_base_weights_no_base_network_is_trained(finished: Study, tmp_path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(Store(finished.store_url).base(finished.plan.digest).weights)
    alone = {"cells": [{"prune": {"conv1": 0.5}, "draw": 3}], "repeats": 1, "train": None}
    store = f"sqlite:///{tmp_path / 's.db'}"
    study = Study("quickstart", set={**TINY, **alone}, base_weights=path, store=store, threads=1, progress=Quiet())
    assert study.run().finished == 3
    base = Store(store).base(study.plan.digest)
    assert base.weights == path.read_bytes()
    assert base.test_accuracy == Store(finished.store_url).base(finished.plan.digest).test_accuracy
    losses = study.trials().set_index("pruned")["pruned_train_loss"]
    known = finished.trials().drop_duplicates("pruned").set_index("pruned")["pruned_train_loss"]
    shared = losses.index.intersection(known.index)
    assert (losses[shared] == known[shared]).all()


def test_an_error_in_one_trial_is_its_outcome_and_is_tried_again(tmp_path, monkeypatch) -> None:
    def study() -> Study:
        changes = {**TINY, "repeats": 1}
        return Study("quickstart", set=changes, store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet())

    real = retrain.train_fleet
    calls = []

    def breaks(nets, *args, **kwargs):
        calls.append(len(nets))
        if len(calls) <= 3:  # the whole fleet, its first half, and the first network of that
            raise RuntimeError("out of memory")
        return real(nets, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(retrain, "train_fleet", breaks)
        status = study().run()
    assert (status.finished, status.failed, status.left) == (9, 1, 1)
    assert study().analyze()[0].excluded == 1
    status = study().run()
    assert (status.finished, status.failed, status.left) == (10, 0, 0)


def test_a_stored_study_is_found_again_with_its_changes(finished: Study) -> None:
    again = Study.stored("quickstart", store=finished.store_url)
    assert again.spec == finished.spec
    assert again.status().left == 0


def test_with_removal_as_released_only_the_l1_mask_is_what_it_is_aligned(finished: Study, tmp_path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(finished.base_weights())
    changes = {**TINY, "train": None, "cells": [{"prune": {"conv1": 0.2}}], "repeats": 1, "retrain.epochs": 1}
    tables = {}
    for removal in ("aligned", "released"):
        store = f"sqlite:///{tmp_path / removal}.db"
        study = Study(
            "quickstart", set={**changes, "removal": removal}, base_weights=path, store=store, progress=Quiet()
        )
        study.run()
        tables[removal] = study.trials()
    aligned, released = tables["aligned"], tables["released"]
    same = aligned["pruned_train_loss"] == released["pruned_train_loss"]
    scores = Store(store).mask_table(study.plan.digest)["l1"]
    assert same.sum() == 1
    assert same.argmax() == scores.argmin()
    assert (aligned["final_train_loss"] != released["final_train_loss"]).all()


def test_losses_on_a_part_of_the_split_have_standard_errors_and_rivals(finished: Study, tmp_path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(finished.base_weights())
    changes = {**TINY, "train": None, "cells": [{"prune": {"conv3": 0.2}}], "repeats": 1, "retrain.epochs": 1}
    store = f"sqlite:///{tmp_path / 's.db'}"
    found = {}
    for images in (400, None):
        study = Study(
            "quickstart", set={**changes, "oracle_images": images}, base_weights=path, store=store, progress=Quiet()
        )
        study.run()
        losses = Store(store).masks(study.plan.digest, 0)
        errors = Store(store).standard_errors(study.plan.digest, 0)
        study.report(tmp_path / f"{images}.html")
        found[images] = (np.array([losses[rank] for rank in range(45)]), np.array([errors[rank] for rank in range(45)]))
    part, error = found[400]
    whole, none = found[None]
    assert (none == 0).all()
    assert (error > 0).all()
    # Four standard errors: 45 masks are judged on the same images, so that they are off together.
    assert (abs(part - whole) < 4 * error).all()
    assert (abs(part - whole) > 0).all()
    order = np.argsort(part)
    near = part - part.min() <= 2 * np.hypot(error, error[order[0]])
    assert f"{near.sum() - 1} other masks" in (tmp_path / "400.html").read_text()
    assert "approximate oracle mask" in (tmp_path / "400.html").read_text()
    assert "other masks" not in (tmp_path / "None.html").read_text().split("Choosing the mask")[1].split("regret")[0]


@pytest.mark.parametrize("images", [99, 1438])
def test_the_oracle_wants_a_hundred_images_and_no_more_than_there_are(images: int, tmp_path) -> None:
    with pytest.raises(SpecError, match=f"`oracle_images`.*{images}"):
        Study("quickstart", set={"oracle_images": images}, store=f"sqlite:///{tmp_path / 's.db'}").run()
