"""CR-Diff's recipe as a study: bases of another size, ratios searched, their masks retrained."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from served import ask, serving
from test_cli import call
from trueoracle import Study
from trueoracle.nets import build, evaluate, mask_weights, smallest, weight_groups, weights_from_bytes
from trueoracle.search import Budget, Hunt
from trueoracle.store import Store
from trueoracle.study import chosen_weights, load_spec, plan
from trueoracle.study.plan import base_data
from trueoracle.study.ratios import RatioJudge, search_ratios
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.mask import WeightMask, read_mask
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import NoiseShape

RECIPE = {"optimiser": "adamw", "lr": 0.002, "epochs": 1, "batch_size": 8}
FACTS = {
    "name": "short",
    "model": "unet2d-condition-mini",
    "data": "denoise:digits@8:300,700",
    "trained_on": "denoise:digits@4",
    "train_images": 16,
    "test_images": 8,
    "train": RECIPE,
    "retrain": RECIPE,
    "cells": [
        {
            "weights": {"down": 0.3, "mid": 0.4, "up": 0.3},
            "pooled": True,
            "draw": 4,
            "criteria": ["magnitude"],
            "search": {"method": "cr-diff", "evaluations": 4, "keep": 2},
        }
    ],
    "repeats": 1,
    "final": "last",
}


def made(folder: Path, **more: object) -> Study:
    (folder / "short.yaml").write_text(yaml.safe_dump({**FACTS, **more}))
    return Study(str(folder / "short.yaml"), store=f"sqlite:///{folder / 'store.db'}", threads=1, progress=Quiet())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Killed in the search of ratios, and run again."""
    study = made(tmp_path_factory.mktemp("ratios"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen_weights, "search_ratios", _killed)
        with pytest.raises(_Killed):
            study.run()
    assert study.run().left == 0
    return study


class _Killed(BaseException):
    pass


def _killed(*_args: object) -> None:
    raise _Killed


def masks(study: Study) -> list[WeightMask]:
    found = [read_mask(text) for text in study.trials()["pruned"]]
    return [mask for mask in found if isinstance(mask, WeightMask)]


def base(study: Study) -> torch.nn.Module:
    net = build(FACTS["model"], NoiseShape(channels=1, height=8, width=8))
    weights_from_bytes(net, study.base_weights(), "of the test")
    return net


def test_masks_are_those_of_the_same_search_by_hand(run: Study) -> None:
    """What `trueoracle ratios` searches, on the images that criteria look at: here all, in a seeded order."""
    net, cell = base(run), run.plan.cells[0]
    judge = RatioJudge(
        net=net, images=chosen_weights.seen_images(run.plan, cell, run.data(), 256), groups=weight_groups(net)
    )
    seed = run.plan.seed(f"search of cell {cell.name}", 0)
    found = search_ratios(judge, Hunt(method="cr-diff", budget=Budget(evaluations=4), seed=seed), Quiet())
    wanted = {judge.mask(found.ranks[place]).bits for place in found.order[:2]}
    assert {mask.bits for mask in masks(run) if mask.criterion == "cr-diff"} == wanted


def test_pruned_losses_are_of_the_other_size_and_not_retrained(run: Study) -> None:
    """The mask of the cell's own ratios, by hand; the loss is of 8x8 images."""
    net, trials = base(run), run.trials()
    mask = smallest(net, {"down": 0.3, "mid": 0.4, "up": 0.3}, weight_groups(net))
    (own,) = [n for n, one in enumerate(masks(run)) if one.bits == mask.bits and one.criterion == "magnitude"]
    pruned = evaluate(mask_weights(net, mask), run.data().train).loss
    assert trials["pruned_train_loss"].iloc[own] == pytest.approx(pruned, rel=1e-5)
    assert sorted(one.criterion for one in masks(run)) == ["", "", "", "", "cr-diff", "cr-diff", "magnitude"]


def test_base_is_trained_on_the_same_images_at_its_own_size(run: Study) -> None:
    small, own = base_data(run.plan, run.data()), run.data()
    assert small.train.images_NCHW.shape == (16, 1, 4, 4)  # type: ignore[attr-defined]
    assert own.train.images_NCHW.shape == (16, 1, 8, 8)  # type: ignore[attr-defined]
    halved = own.train.images_NCHW.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))  # type: ignore[attr-defined]
    near = np.corrcoef(halved.flatten().numpy(), small.train.images_NCHW.flatten().numpy())[0, 1]  # type: ignore[attr-defined]
    assert near > 0.95
    other = made(Path(run.store_url.removeprefix("sqlite:///")).parent, trained_on=None, name="other").plan
    assert base_data(other, own) is own


def test_it_is_analysed_by_its_loss_unasked(run: Study, tmp_path: Path) -> None:
    assert Store(run.store_url).find("short").name == "short"
    assert [cell.y for cell in run.analyze()] == ["final_test_loss"]
    assert '"y": "final_test_loss"' in call("analyze", "short", "--store", run.store_url, "--json")
    run.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "final test loss" in page
    assert "Learning curves of 4 masks" in page
    assert "the median test loss goes from" in page
    assert not re.search(r"\bnats\b|test accuracy|share of right", page)


def test_pages_show_its_losses_and_no_accuracy(run: Study) -> None:
    found, digest = run.trials().iloc[0], run.plan.digest[:12]
    with serving(run.store_url) as address:
        _, _, trials = ask(address, f"/studies/{digest}/trials")
        _, _, mask = ask(address, f"/studies/{digest}/cells/0/masks/{found['mask']}")
    for page in (trials, mask):
        assert "final test loss" in page
        assert not re.search(r"\bnats\b|accuracy", page)
    assert "test loss ends at" in mask


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trained_on": "denoise:mnist@4"}, "must name the images of `data` with noise, at another size"),
        ({"trained_on": "digits"}, "must name the images of `data` with noise, at another size"),
        ({"trained_on": "denoise:digits@5"}, "multiples of 2, but got 5x5"),
        ({"base_weights": "w.safetensors"}, "`trained_on` is for base networks that are trained"),
        ({"cells": [{**FACTS["cells"][0], "pooled": False}]}, "for ratios of `pooled` weights"),  # type: ignore[index]
        ({"model": "unet2d-mini"}, "selects no layer of the group `down` of UNet2DModel"),
        ({"model": "dit-mini", "trained_on": None}, "DiTTransformer2DModel has no layers in the group `down`"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises((SpecError, ModelError), match=says):
        assert made(tmp_path, **change).plan


def test_the_builtin_study_is_planned_at_every_scale() -> None:
    for scale in ("tiny", "small", "paper"):
        spec = load_spec("unet-mnist-cr-diff", scale=scale)
        groups = plan(spec).cells[0].of_weights.sites
        assert [group.site for group in groups] == ["down", "mid", "up"]
