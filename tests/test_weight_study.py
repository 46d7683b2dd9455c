"""Studies of masks of weights, from the spec to the page: run, killed, scored, analysed, exported."""

import json
from copy import deepcopy
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import trueoracle
from test_cli import call
from trueoracle import Study
from trueoracle.data import load_dataset
from trueoracle.nets import kept_weights, mask_weights, weights_from_bytes
from trueoracle.store import Store
from trueoracle.study import retrained, study_data
from trueoracle.words.errors import SpecError
from trueoracle.words.mask import WeightMask, read_mask
from trueoracle.words.progress import Quiet
from trueoracle.words.scores import WEIGHT_CRITERIA

FACTS = {
    "name": "short",
    "model": "lenet5-mini",
    "data": "digits",
    "train_images": 300,
    "test_images": 150,
    "train": {"optimiser": "sgd", "lr": 0.05, "momentum": 0.9, "batch_size": 20, "epochs": 8},
    "retrain": {"optimiser": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.001, "batch_size": 20, "epochs": 2},
    "cells": [
        {"weights": {"fc1": 0.5}, "draw": 10, "criteria": ["magnitude", "lamp", "snip"]},
        {"weights": {"*": 0.4}, "pooled": True, "draw": 5},
        {"weights": {"conv[23]": "3:5", "fc1": 0.25}, "draw": 4},
        {"weights": {"fc2": "9:10"}, "search": {"method": "rows", "evaluations": 100}, "criteria": ["wanda"], "draw": 3},
        {"prune": {"conv1": 0.5}, "draw": 4},
    ],
    "repeats": 2,
    "final": "last",
}  # fmt: skip
CELLS = ["weights-fc1-0.5", "pooled-weights-*-0.4", "weights-conv[23]-3:5+fc1-0.25", "weights-fc2-9:10", "conv1-0.5"]


def made(folder: Path, store: str = "trueoracle.db", **more: object) -> Study:
    (folder / "short.yaml").write_text(yaml.safe_dump({**FACTS, **more}))
    return Study(str(folder / "short.yaml"), store=f"sqlite:///{folder / store}", threads=1, progress=Quiet())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = made(tmp_path_factory.mktemp("weights"))
    assert study.run().left == 0
    return study


def table(study: Study) -> pd.DataFrame:
    return study.trials().drop(columns="seconds")


def test_every_mask_is_evaluated_retrained_and_kept_with_its_bits(run: Study) -> None:
    trials = run.trials()
    assert trials.groupby("cell", sort=False)["mask"].nunique().to_dict() == dict(
        zip(CELLS, (13, 5, 4, 5, 4), strict=True)
    )
    assert len(trials) == 2 * 31
    for row in trials[trials["cell"] != "conv1-0.5"].itertuples():
        mask = read_mask(row.pruned)
        assert isinstance(mask, WeightMask)
        assert mask.rank == row.mask
    ratios = {"fc1": 0.5, "*": 0.4}
    for cell, site in zip(CELLS[:2], ratios, strict=True):
        masks = [read_mask(text) for text in trials[trials["cell"] == cell]["pruned"]]
        assert all(mask.gone_by_site[site].mean() == ratios[site] for mask in masks if isinstance(mask, WeightMask))


def test_what_criteria_give_is_marked_and_left_out_of_statistics(run: Study) -> None:
    masks = run.trials().query(f"cell == '{CELLS[0]}'").drop_duplicates("mask")
    given = {
        mask.criterion: mask
        for mask in map(read_mask, masks[masks["searched"]]["pruned"])
        if isinstance(mask, WeightMask)
    }
    assert {*given} == {"magnitude", "lamp", "snip"}
    assert given["magnitude"].bits == given["lamp"].bits  # of one layer they have one order: two masks of the same bits
    assert given["magnitude"].rank != given["lamp"].rank
    assert given["snip"].bits != given["magnitude"].bits
    assert masks.set_index("mask")["magnitude"].idxmin() in {given["magnitude"].rank, given["lamp"].rank}
    (cell, *_) = [one for one in run.analyze() if one.group == CELLS[0]]
    assert cell.n == 10


def test_the_record_says_what_is_held_and_that_nothing_is_multiplied_less(run: Study) -> None:
    store = Store(run.store_url)
    base = store.base(run.plan.digest)
    assert base is not None
    fc1, pooled, pattern, rows, units = store.cells(run.plan.digest)
    assert [record.of_weights for record in (fc1, pooled, pattern, rows, units)] == [True, True, True, True, False]
    assert (fc1.sites, fc1.parameters, fc1.macs) == ({"fc1": (100, 50)}, base.parameters - 50, base.macs)
    assert pooled.sites == {"*": (5450, 3270)}
    assert pattern.sites == {"conv2": (2500, 1500), "conv3": (2500, 1500), "fc1": (100, 75)}
    assert units.sites == {"conv1": (10, 5)}
    assert (fc1.digits, units.digits) == (19, 3)


def test_pruned_losses_are_those_of_dense_weights_times_the_mask(run: Study) -> None:
    store, data = Store(run.store_url), load_dataset("digits", None, torch.device("cpu"), Quiet())
    base = store.base(run.plan.digest)
    assert base is not None
    net = run.plan.nets[0]
    weights_from_bytes(net, base.weights, "of the test")
    train = study_data(run.plan, data).train
    for row in run.trials().drop_duplicates("mask").query("cell != 'conv1-0.5'").itertuples():
        mask = read_mask(row.pruned)
        assert isinstance(mask, WeightMask)
        double = mask_weights(net, mask).double()
        loss = torch.nn.functional.cross_entropy(double(train.images_NCHW.double()), train.labels_N).item()  # type: ignore[attr-defined]
        assert row.pruned_train_loss == pytest.approx(loss, rel=1e-5)


def test_a_trial_made_again_has_its_zeros_and_the_same_figures(run: Study) -> None:
    store, data = Store(run.store_url), study_data(run.plan, load_dataset("digits", None, torch.device("cpu"), Quiet()))
    base = store.base(run.plan.digest)
    assert base is not None
    net = run.plan.nets[0]
    weights_from_bytes(net, base.weights, "of the test")
    for cell in run.plan.cells[:4]:
        mask = cell.space.unrank(cell.ranks[0])
        assert isinstance(mask, WeightMask)
        again, final = retrained(run.plan, net, cell, mask, 1, data)
        (row,) = run.trials().query(f"mask == {mask.rank} and repeat == 1").itertuples()
        assert (final.test_loss, final.train_loss) == (row.final_test_loss, row.final_train_loss)
        for name, kept in kept_weights(again).items():
            assert (again.get_parameter(name)[~kept].detach().numpy().tobytes().strip(b"\0")) == b""


class Killed(Exception):
    """Stands for the end of the process at this moment."""


def killed_at(number: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's method is not reached this many times."""
    calls, whole = count(1), getattr(Store, method)

    def reached(*arguments: object, **more: object) -> object:
        if next(calls) == number:
            raise Killed
        return whole(*arguments, **more)

    monkeypatch.setattr(Store, method, reached)


def test_a_run_that_is_killed_ends_with_the_table_of_a_calm_one(
    run: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the drawn masks are stored, between them and those of criteria, before and in the midst of the trials."""
    for method, number in (("put_masks", 1), ("put_masks", 2), ("put_masks", 2), ("begin_run", 1), ("put_trials", 3)):
        with monkeypatch.context() as patch:
            killed_at(number, method, patch)
            with pytest.raises(Killed):
                made(tmp_path).run()
    assert 0 < made(tmp_path).status().finished < 62
    made(tmp_path).run()
    pd.testing.assert_frame_equal(table(made(tmp_path)), table(run), check_exact=True)


def test_masks_are_scored_by_criteria_of_their_own_kind(run: Study) -> None:
    refused = run.measure([*WEIGHT_CRITERIA, "fpgm", "sampled_train_loss", "reconstruction"], images=40)
    trials = run.trials()
    of_weights = trials[trials["cell"] != "conv1-0.5"]
    assert of_weights[[f"{name}@40" for name in WEIGHT_CRITERIA]].notna().all().all()
    units = trials[trials["cell"] == "conv1-0.5"]
    assert trials["sampled_train_loss@40"].notna().all()
    assert of_weights["fpgm@40"].isna().all()
    assert units[["fpgm@40", "wanda@40"]].notna().all().all()
    assert units[["magnitude@40", "movement@40"]].isna().all().all()
    assert "single weights" in refused["reconstruction"]
    best = of_weights.query(f"cell == '{CELLS[0]}'").drop_duplicates("mask").set_index("mask")
    magnitude = best[best["searched"]]["magnitude"].idxmin()
    assert best["magnitude"].idxmin() == magnitude  # the mask of a criterion throws away least by that criterion
    assert (best["magnitude@40"] - best["magnitude"]).abs().max() == 0


def test_pages_figures_and_tables_take_them(run: Study, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run.report(page)
    text = page.read_text()
    assert "fc1 keeps 50 of 100 weights" in text
    assert "10 of 10^" in text or "10 of 1.0" in text


def test_a_mask_of_weights_is_exported_with_its_zeros(run: Study, tmp_path: Path) -> None:
    told = run.export(tmp_path / "net", cell=CELLS[1], formats=())
    facts = json.loads((tmp_path / "net" / "pruning.json").read_text())
    assert facts["sites"] == {}
    assert sum(layer["weights"] - layer["kept"] for layer in facts["weights"].values()) == 2180
    net = trueoracle.load(tmp_path / "net")
    zeros = sum(int((p == 0).sum()) for name, p in net.named_parameters() if name.endswith("weight"))
    assert zeros == 2180
    assert told.pruned.parameters + 2180 == told.whole.parameters
    with pytest.raises(SpecError, match=r"cell `weights-fc1-0.5` has no mask 12: it drew others"):
        run.export(tmp_path / "none", cell=CELLS[0], mask=12, formats=())
    of_criterion = run.trials().query("searched")["mask"].iloc[0]
    run.export(tmp_path / "given", cell=CELLS[0], mask=int(of_criterion), formats=())


def test_the_search_row_by_row_finds_what_is_found_one_mask_after_another(run: Study) -> None:
    """Of each row in turn the weight to lose, by networks of which that weight and those chosen before are zero."""
    store, data = Store(run.store_url), study_data(run.plan, load_dataset("digits", None, torch.device("cpu"), Quiet()))
    base = store.base(run.plan.digest)
    assert base is not None
    net = run.plan.nets[0]
    weights_from_bytes(net, base.weights, "of the test")
    slow = deepcopy(net).double()
    weight, chosen = slow.get_parameter("fc2.weight"), []
    images, labels = data.train.images_NCHW.double(), data.train.labels_N  # type: ignore[attr-defined]
    with torch.no_grad():
        for row in range(10):
            losses = []
            for place in range(10):
                before = weight[row, place].item()
                weight[row, place] = 0
                losses.append(torch.nn.functional.cross_entropy(slow(images), labels).item())
                weight[row, place] = before
            chosen.append(int(np.argmin(losses)))
            weight[row, chosen[-1]] = 0
    masks = run.trials().query("cell == 'weights-fc2-9:10' and searched").drop_duplicates("mask")
    found = {mask.criterion: mask for mask in map(read_mask, masks["pruned"]) if isinstance(mask, WeightMask)}
    assert {*found} == {"rows", "wanda"}
    assert np.nonzero(found["rows"].gone_by_layer["fc2"])[1].tolist() == chosen
    assert masks["pruned_train_loss"].min() == masks.set_index("mask")["pruned_train_loss"][found["rows"].rank]


def test_all_masks_of_a_small_space_are_in_play(tmp_path: Path) -> None:
    study = made(tmp_path, cells=[{"weights": {"fc1": 0.01}}], repeats=1)
    cell = study.plan.cells[0]
    assert cell.count == cell.space.count == len(cell.ranks) == 100
    assert sorted(
        np.flatnonzero(mask.gone_by_site["fc1"])[0] for mask in cell.masks() if isinstance(mask, WeightMask)
    ) == [*range(100)]


def test_studies_are_told_and_planned_by_the_command_line(run: Study, tmp_path: Path) -> None:
    made(tmp_path)
    told = call("studies", str(tmp_path / "short.yaml"))
    assert "weights fc1 at 0.5 (13 masks, drawn)" in told
    assert CELLS[1][:10] in call("analyze", "short", "--store", run.store_url)
