"""Mask predictors against brute force on a network of a few dozen weights, and as scores of a stored study."""

import math
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from threading import Barrier, current_thread
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from conftest import TINY
from trueoracle import Study
from trueoracle.criteria import CannotJudge, Dense, Pruned, mask_predictors
from trueoracle.criteria.masks import naswot, quadratic_retrained_loss
from trueoracle.data import Dataset, Split, load_dataset
from trueoracle.executors import Stop, Threads
from trueoracle.nets import evaluate, find_sites, recalibrate, silenced
from trueoracle.store import Piece, Store
from trueoracle.study import Scoring, study_data
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.mask import AnyMask, Mask, SiteMask
from trueoracle.words.progress import Quiet
from trueoracle.words.scores import MASK_PREDICTORS
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=1, height=6, width=6, classes=3)
LR = 0.05


class Small(nn.Module):
    """A convolution of four filters, a linear layer of three neurons, and the classifier."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, stride=3), nn.BatchNorm2d(4) if norm else nn.Identity()
        self.hidden, self.head = nn.Linear(16, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(F.relu(self.norm(self.conv(x))).flatten(1))))


def dense_of(net: nn.Module, images: int = 12) -> Dense:
    chance = torch.Generator().manual_seed(3)
    split = Split(
        images_NCHW=torch.randn(images, 1, 6, 6, generator=chance, dtype=torch.float64),
        labels_N=torch.randint(3, (images,), generator=chance),
    )
    return Dense(net=net.eval(), sites=find_sites(net, SHAPE), shape=SHAPE, examples=split, lr=LR)


@pytest.fixture(scope="module")
def dense() -> Dense:
    torch.manual_seed(0)
    return dense_of(Small().double())


MASK = Mask(rank=0, sites=(SiteMask(site="conv", units=4, kept=(1, 3)), SiteMask(site="hidden", units=3, kept=(0, 2))))


def split_of(dense: Dense) -> Split:
    assert isinstance(dense.examples, Split)
    return dense.examples


def measured(name: str, dense: Dense) -> float:
    return mask_predictors()[name].measure(dense.pruned(MASK))


def flat(net: nn.Module) -> tuple[Tensor, Callable[[Tensor], dict[str, Tensor]]]:
    """The weights as one vector, and the way back."""
    named = dict(net.named_parameters())

    def back(vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([p.numel() for p in named.values()])
        return {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}

    return torch.cat([p.detach().flatten() for p in named.values()]), back


def by_hand(dense: Dense) -> dict[str, float]:
    """Every figure in a few plain lines, from the whole Hessian, Gauss-Newton matrix and Jacobians."""
    net, split = dense.pruned(MASK).net, split_of(dense)
    x, y, n = split.images_NCHW, split.labels_N, len(split)
    at, back = flat(net)

    def logits(w: Tensor) -> Tensor:
        found: Tensor = functional_call(net, back(w), (x,))
        return found

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(logits(w), y)

    out, value = logits(at), loss(at).item()
    g = torch.tensor([(loss(at + e) - loss(at - e)).item() / 2e-6 for e in 1e-6 * torch.eye(len(at)).double()])
    g = g.double()
    hessian = torch.autograd.functional.hessian(loss, at)
    j = torch.autograd.functional.jacobian(logits, at)  # N, K, W
    p = out.softmax(1)
    gauss_newton = sum(j[i].T @ (p[i].diag() - p[i].outer(p[i])) @ j[i] for i in range(n)) / n
    damped = gauss_newton + quadratic_retrained_loss.DAMPING * torch.eye(len(at))
    q = dense.net(x).softmax(1)
    jacobians = [torch.autograd.functional.jacobian(net, x[i : i + 1])[0, :, 0].flatten(1) for i in range(n)]
    with np.errstate(invalid="ignore"):  # an image that no weight answers to correlates with none, itself included
        correlations = np.nan_to_num(np.corrcoef(np.stack([one.sum(0).numpy() for one in jacobians])))
    v = np.linalg.eigvalsh(correlations)
    first = F.relu(net.conv(x)).flatten(1)  # type: ignore[operator]
    second = F.relu(net.hidden(first))  # type: ignore[operator]
    on = torch.cat([first > 0, second > 0], 1)
    kernel = np.array([[(on[a] == on[b]).sum().item() for b in range(3)] for a in range(3)], float)
    return {
        "sampled_train_loss": value,
        "sampled_train_accuracy": (out.argmax(1) == y).double().mean().item(),
        "logit_shift": (q * (q.log() - p.log())).sum(1).mean().item(),
        "gradient_norm": (g @ g).item(),
        "first_step_loss": value - LR * (g @ g).item() + LR**2 / 2 * (g @ hessian @ g).item(),
        "quadratic_retrained_loss": value - (g @ torch.linalg.solve(damped, g)).item() / 2,
        "jacobian_singular_value": float(np.mean([np.linalg.svd(one, compute_uv=False) for one in jacobians])),
        "jacob_cov": -float((np.log(v + 1e-5) + 1 / (v + 1e-5)).sum()),
        "naswot": float(np.linalg.slogdet(kernel)[1]),
        "parameters": float(len(at)),
        "operations": float(2 * 9 * 4 + 8 * 2 + 2 * 3),
        "reconstruction": reconstruction_by_silencing(dense),
    }


def reconstruction_by_silencing(dense: Dense) -> float:
    """How far the outputs of what sums over a site's units move when the units are silent, site after site."""
    seen: list[Tensor] = []
    lost = 0.0
    for part, consumer in zip(MASK.sites, ("hidden", "head"), strict=True):
        hook = dense.net.get_submodule(consumer).register_forward_hook(lambda _m, _x, out: seen.append(out))
        with torch.no_grad():
            split_of(dense).judge(dense.net)
            with silenced(dense.net, Mask(rank=0, sites=(part,)), dense.sites):
                split_of(dense).judge(dense.net)
        hook.remove()
        whole, without = seen[-2:]
        lost += (whole - without).square().sum(1).mean().item()
    return lost


BY_HAND = sorted(set(MASK_PREDICTORS) - {"recalibrated_sampled_loss"})


@pytest.mark.parametrize("name", BY_HAND)
def test_every_figure_is_that_of_brute_force(name: str, dense: Dense, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quadratic_retrained_loss, "STEPS", 400)
    monkeypatch.setattr(naswot, "IMAGES", 3)
    tolerance = {"gradient_norm": 1e-5, "first_step_loss": 1e-5, "quadratic_retrained_loss": 1e-4, "jacob_cov": 1e-3}
    assert measured(name, dense) == pytest.approx(by_hand(dense)[name], rel=tolerance.get(name, 1e-9))


def test_the_quadratic_loss_lies_between_the_first_step_and_zero_and_falls_with_more_steps(
    dense: Dense, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for steps in (1, 3, 10, 50):
        monkeypatch.setattr(quadratic_retrained_loss, "STEPS", steps)
        found.append(measured("quadratic_retrained_loss", dense))
    assert found == sorted(found, reverse=True)
    assert found[0] < measured("sampled_train_loss", dense)


def test_images_that_switch_on_the_same_are_not_told_apart(dense: Dense) -> None:
    assert measured("naswot", dense) == -math.inf  # twelve images and ten ReLUs


def test_recalibration_is_done_on_a_copy() -> None:
    torch.manual_seed(0)
    dense = dense_of(Small(norm=True).double())
    net = deepcopy(dense.pruned(MASK).net)
    recalibrate(net, split_of(dense).images_NCHW)
    wanted = evaluate(net, dense.examples).loss
    pruned = dense.pruned(MASK)
    raw = pruned.judged.loss_B.mean().item()
    assert mask_predictors()["recalibrated_sampled_loss"].measure(pruned) == pytest.approx(wanted, rel=1e-12)
    assert evaluate(pruned.net, dense.examples).loss == pytest.approx(raw, rel=1e-12) != pytest.approx(wanted)


def test_what_has_nothing_to_say_says_why(dense: Dense) -> None:
    with pytest.raises(CannotJudge, match="the network has no BatchNorm to recalibrate"):
        measured("recalibrated_sampled_loss", dense)

    class Smooth(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.hidden(torch.tanh(self.conv(x)).flatten(1))))

    with pytest.raises(CannotJudge, match="the network has no ReLU"):
        measured("naswot", dense_of(Smooth().double()))


def test_names_and_directions_are_known_without_loading_them() -> None:
    assert {name: one.better for name, one in mask_predictors().items()} == MASK_PREDICTORS


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    facts = {**TINY, "cells": [{"prune": {"conv1": 0.5}, "draw": 5}], "base_networks": 2}
    made = Study(
        "quickstart", set=facts, store=f"sqlite:///{tmp_path_factory.mktemp('scored') / 's.db'}", progress=Quiet()
    )
    made.run()
    return made


class InThisThread:
    """An executor without threads."""

    workers = 1

    def run(self, work: Callable[[Any, Stop], Any], items: Iterable[Any]) -> Generator[Any]:
        for item in items:
            yield work(item, lambda: False)


def scoring(study: Study, **changes: Any) -> Scoring:
    data: Dataset = study_data(study.plan, load_dataset("digits", None, torch.device("cpu"), Quiet()))
    facts = {"plan": study.plan, "data": data, "store": Store(study.store_url), "executor": Threads(2)}
    return Scoring(**{**facts, "progress": Quiet(), "images": 64, **changes})


def test_a_stored_study_is_scored_afterwards_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    before = study.trials()
    refused = scoring(study).measure()
    assert refused == {
        "recalibrated_sampled_loss": "the network has no BatchNorm to recalibrate",
        "bn_scale": "no BatchNorm with scales follows the units of `conv1`",
    }
    after = study.trials()
    assert after[list(before)].equals(before)
    for name in set(MASK_PREDICTORS) - set(refused):
        assert np.isfinite(after[f"{name}@64"]).all()
        assert after.groupby(["base", "mask"])[f"{name}@64"].nunique().eq(1).all()
    costs = Store(study.store_url).costs(study.plan.digest)
    measured = {name for name in after if name.endswith("@64")}
    assert {f"{name}@64" for name in set(MASK_PREDICTORS) - set(refused)} <= measured
    assert set(costs) == measured | {"l1", "l2", "random"}
    assert all(set(of_cells) == {0, 1} and min(of_cells.values()) > 0 for of_cells in costs.values())
    (first, second) = study.analyze(x="logit_shift@64")
    assert (first.n, second.n) == (5, 5)
    monkeypatch.setattr(Dense, "pruned", lambda *_: pytest.fail("measured again"))
    assert scoring(study).measure(["logit_shift", "naswot"]) == {}


def test_what_a_score_costs_is_measured_where_the_score_alone_is_known(study: Study) -> None:
    """As in a study that comes from a table, and of the scores that every study stores."""
    of, digest, names = scoring(study, images=32), study.plan.digest, ["l1", "wanda", "naswot"]
    for cell in study.plan.cells:
        for name in ("wanda@32", "naswot@32"):
            of.store.add_scores(digest, cell.index, name, dict.fromkeys(cell.ranks, 0.5), cell.digits)
    before = study.trials()
    assert of.measure(names) == {}
    costs = of.store.costs(digest)
    for name in ("l1", "wanda@32", "naswot@32"):
        assert costs[name].keys() == {0, 1}
        assert min(costs[name].values()) > 0
    assert study.trials().equals(before)
    assert of.measure(names) == {}
    assert of.store.costs(digest) == costs


def test_two_that_are_asked_for_the_same_share_the_masks(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueoracle.study.scoring._MASKS_A_PIECE", 1)
    monkeypatch.setattr(Scoring, "_first", lambda *_: {})  # which each of them tries for itself
    pruned, both_hold_one = Dense.pruned, Barrier(2)
    by: dict[str, list[int]] = {}

    def noted(dense: Dense, mask: AnyMask) -> Pruned:
        own = by.setdefault(current_thread().name, [])
        if not own:
            both_hold_one.wait()
        own.append(mask.rank)
        return pruned(dense, mask)

    monkeypatch.setattr(Dense, "pruned", noted)
    with ThreadPoolExecutor(2) as pool:
        two = [scoring(study, images=48, executor=InThisThread()) for _ in range(2)]
        for done in [pool.submit(one.measure, ["logit_shift"]) for one in two]:
            assert done.result() == {}
    assert np.isfinite(study.trials()["logit_shift@48"]).all()
    one, other = by.values()
    assert sorted(one + other) == sorted(rank for cell in study.plan.cells for rank in cell.ranks)


def test_what_a_killed_one_left_lying_is_measured(study: Study) -> None:
    of, digest = scoring(study, images=24), study.plan.digest
    stage = "logit_shift@24 of base network 0"
    of.store.open_stage(digest, stage, lambda: [Piece(cell=0, start=0, stop=5)])
    assert of.store.claim(digest, stage, "killed", seconds=-1.0) is not None
    assert of.measure(["logit_shift"]) == {}
    assert not of.store.pieces_left(digest, stage)
    assert np.isfinite(study.trials()["logit_shift@24"]).all()


def test_what_goes_wrong_is_said(study: Study, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown predictor `logitshift`: did you mean `logit_shift`"):
        scoring(study).measure(["logitshift"])
    with pytest.raises(SpecError, match="`images` must be at least 1, but got 0"):
        scoring(study, images=0).measure(["naswot"])
    other = Study("quickstart", set=TINY, store=f"sqlite:///{tmp_path / 'new.db'}", progress=Quiet())
    with pytest.raises(StoreError, match="base network 0 of `quickstart` is not trained yet"):
        scoring(other, store=Store(other.store_url, create=True)).measure(["naswot"])
    assert math.isfinite(study.trials()["pruned_train_loss"].sum())
