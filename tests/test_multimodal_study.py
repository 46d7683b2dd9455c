"""A study of LLaVA-Mini on real pictures, from nothing to the analysis: full retraining, LoRA, and a given base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trueoracle import Study
from trueoracle.data import load_dataset
from trueoracle.nets import evaluate, remove
from trueoracle.study import drawn_questions, study_data
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.progress import Quiet

RECIPE = {"optimiser": "adamw", "lr": 0.003, "batch_size": 16, "epochs": 1}
FACTS: dict[str, Any] = {
    "name": "mini",
    "model": "llava-mini",
    "data": "qa:cifar10",
    "train": RECIPE,
    "retrain": RECIPE,
    "cells": [
        {"prune": {"*.layers.0.self_attn": 0.5}, "draw": 3},
        {"prune": {"*.layers.*.mlp.fc1": 0.25}, "draw": 3},
    ],
    "train_images": 48,
    "test_images": 32,
    "repeats": 1,
    "final": "last",
}


@pytest.fixture(scope="module")
def folder(cifar10_part: Callable[[Path, int], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    cifar10_part(made, 60)
    return made


def study(folder: Path, store: Path, **changes: Any) -> Study:
    import yaml

    file = store.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**FACTS, **changes}))
    return Study(str(file), store=f"sqlite:///{store}", data_dir=folder, threads=1, progress=Quiet())


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = study(folder, tmp_path_factory.mktemp("study") / "s.db")
    made.run()
    return made


def test_the_stored_losses_are_those_of_the_pruned_networks(run: Study, folder: Path) -> None:
    trials = run.trials()
    assert list(trials.outcome) == ["finished"] * 6
    net = run.plan.nets[0]
    whole = load_dataset("qa:cifar10", folder, torch.device("cpu"), Quiet(), drawn=drawn_questions(run.spec))
    data = study_data(run.plan, whole)
    assert (len(data.train), len(data.test)) == (48, 32)
    for cell in run.plan.cells:
        for mask in cell.masks():
            [row] = trials[(trials.cell == cell.name) & (trials["mask"] == mask.rank)].itertuples()
            found = evaluate(remove(net, mask, run.plan.sites), data.train)
            assert row.pruned_train_loss == pytest.approx(found.loss, rel=1e-5)
    assert trials.pruned_train_loss.nunique() == 6
    assert np.isfinite(trials.final_test_loss).all()
    assert trials.final_test_accuracy.between(0, 1).all()


def test_the_analysis_knows_that_tokens_are_the_classes(run: Study) -> None:
    base = run._store.base(run.plan.digest)
    assert base is not None
    assert base.classes == 258
    assert base.parameters == 174_144
    assert len(run.analyze(y="final_test_loss")) == 2


def test_retraining_by_lora_from_a_given_base(run: Study, folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "base.safetensors"
    weights.write_bytes(run.base_weights())
    lora = {"rank": 4, "alpha": 8, "targets": ["q_proj", "fc1"]}
    again = study(folder, tmp_path / "lora.db", train=None, base_weights=str(weights), retrain={**RECIPE, "lora": lora})
    again.run()
    before, after = run.trials(), again.trials()
    assert list(after.outcome) == ["finished"] * 6
    assert after.final_train_loss.iloc[0] != before.final_train_loss.iloc[0]
    assert (after.final_train_loss < after.pruned_train_loss).all()


def test_what_is_said_of_a_study_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    with pytest.raises(ModelError, match="`resnet56` reads no text"):
        study(folder, store, model="resnet56")
    with pytest.raises(SpecError, match="no site is called `\\*.vision_tower.\\*`"):
        study(folder, store, cells=[{"prune": {"*.vision_tower.*": 0.5}, "draw": 3}])
    with pytest.raises(SpecError, match="`llava-mini` has no BatchNorm to recalibrate"):
        study(folder, store, recalibration_images=10)
    with pytest.raises(ModelError, match="has one width: leave `width_factor` at 1"):
        study(folder, store, width_factor=0.5)
    with pytest.raises(SpecError, match="`early.mixup` is for images to be classified, but `qa:cifar10` is for text"):
        study(folder, store, early={**RECIPE, "mixup": 0.2})
    with pytest.raises(ModelError, match="`lora` is to train the layers called `gate_proj`, but the network has none"):
        study(folder, store, train={**RECIPE, "lora": {"rank": 1, "alpha": 1, "targets": ["gate_proj"]}}).run()
