"""Unit criteria against a few plain lines each, on a network of a few dozen weights; on networks of every kind; in studies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from conftest import TINY
from test_mask_predictors import Small, dense_of, scoring, split_of
from trueoracle import Study
from trueoracle.analysis.metric import Better, known
from trueoracle.criteria import Dense, Needs, UnitCriterion, collect, gathered, judged, judged_of, unit_criteria
from trueoracle.data import Questions, Split
from trueoracle.nets import find_sites, unit_moments, unit_weights
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Quiet
from trueoracle.words.scores import UNIT_CRITERIA
from trueoracle.words.shape import InputShape


@pytest.fixture(scope="module")
def dense() -> Dense:
    torch.manual_seed(1)
    return dense_of(Small().double(), images=40)


def by_hand(dense: Dense) -> dict[str, list[float]]:
    """Every criterion of the convolution's four filters, of which the layer `hidden` is given four places each."""
    net, split = dense.net, split_of(dense)
    conv, hidden, head = net.conv, net.hidden, net.head
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(hidden, nn.Linear)
    assert isinstance(head, nn.Linear)
    own = conv.weight.detach().flatten(1).numpy()
    heard = hidden.weight.detach().numpy().reshape(3, 4, 4)  # outputs, filters, places
    given = F.relu(conv(split.images_NCHW)).detach().flatten(2).numpy()  # examples, filters, places
    gates, gradients = [], []
    for n in range(len(split)):
        z = torch.ones(4, dtype=torch.float64, requires_grad=True)
        weight = conv.weight.detach().clone().requires_grad_()
        maps = F.relu(F.conv2d(split.images_NCHW[n : n + 1], weight, conv.bias, stride=3)).flatten(2) * z[:, None]
        loss = F.cross_entropy(head(F.relu(hidden(maps.flatten(1)))), split.labels_N[n : n + 1])
        of_gate, of_weight = torch.autograd.grad(loss, [z, weight])
        gates.append(of_gate.numpy())
        gradients.append(of_weight.flatten(1).numpy())
    gate, gradient = np.array(gates), np.array(gradients)
    squares = (own**2).sum(1)
    norms = np.sqrt(squares)
    cosines = own @ own.T / norms[:, None] / norms
    products = (gradient * own).sum(2)
    fisher_of_weights = ((gradient * own) ** 2).mean(0).sum(1)
    norm_of_inputs = np.sqrt((given**2).sum(0))  # filters, places
    size = abs(heard)
    relative = size / size.sum((1, 2), keepdims=True) + size / size.sum(0)
    h = gate.T @ gate / len(gate)
    inverse = np.linalg.inv(h + 0.01 * h.diagonal().mean() * np.eye(4))
    halves = (slice(32), slice(32, None))
    return {
        "activation_mean": given.mean((0, 2)),
        "activation_std": given.std((0, 2)),
        "apoz": (given != 0).mean((0, 2)),
        "fisher": (gate**2).mean(0) / 2,
        "flap": (given.var(0) * (heard**2).sum(0)).sum(1),
        "fpgm": [sum(np.linalg.norm(a - b) for b in own) for a in own],
        "group_fisher": (gate**2).sum(0) / 2 / 4,
        "group_norm": np.sqrt(squares + (heard**2).sum((0, 2))),
        "lamp": [s / squares[squares >= s].sum() for s in squares],
        "obd": fisher_of_weights / 2,
        "obs": [0.5 / inverse[u, u] for u in range(4)],
        "reversed_l1": -abs(own).mean(1),
        "ria": (relative * np.sqrt(norm_of_inputs)).sum((0, 2)),
        "snip": abs(gradient.mean(0) * own).sum(1),
        "taylor_activation": abs(gate).mean(0) / np.linalg.norm(abs(gate).mean(0)),
        "taylor_gate": sum(gate[half].mean(0) ** 2 for half in halves) / 2,
        "taylor_second_order": (products.mean(0) - fisher_of_weights / 2) ** 2,
        "taylor_weight": sum(products[half].mean(0) ** 2 for half in halves) / 2,
        "wanda": (size * norm_of_inputs).sum((0, 2)),
        "whc": [norms[u] * sum(norms[v] * (1 - abs(cosines[u, v])) for v in range(4) if v != u) for u in range(4)],
    }  # type: ignore[return-value]


OF_THEIR_OWN = ("chip", "grasp", "hrank", "nisp", "synflow")
"""These go through the network in ways of their own: `test_whole_criteria.py`."""


@pytest.mark.parametrize("name", [name for name in UNIT_CRITERIA if name not in OF_THEIR_OWN])
def test_every_criterion_is_that_of_plain_lines(name: str, dense: Dense) -> None:
    found, refused = judged(dense.net, {"conv": dense.sites["conv"]}, dense.examples, {name: unit_criteria()[name]})
    assert refused == {}
    assert found[name]["conv"].dtype == torch.float64
    assert found[name]["conv"].tolist() == pytest.approx(list(by_hand(dense)[name]), rel=1e-9)


def test_names_are_known_without_loading_them_and_lower_is_better_for_what_is_thrown_away() -> None:
    assert tuple(unit_criteria()) == UNIT_CRITERIA
    assert {known(name) for name in (*UNIT_CRITERIA, "fisher@64")} == {Better.LOWER}


def test_a_gate_is_what_silence_does_to_first_order(dense: Dense) -> None:
    """The sum over all units of a layer without biases behind it is the loss's derivative by the layer's whole output."""
    (of,) = collect(dense.net, {"hidden": dense.sites["hidden"]}, dense.examples, Needs.GRADIENTS).values()
    split, scale = split_of(dense), torch.ones((), dtype=torch.float64, requires_grad=True)
    net = dense.net
    first = F.relu(net.conv(split.images_NCHW)).flatten(1)  # type: ignore[operator]
    loss = F.cross_entropy(net.head(F.relu(net.hidden(first)) * scale), split.labels_N)  # type: ignore[operator]
    assert of.known("gate_NU").mean(0).sum().item() == pytest.approx(
        torch.autograd.grad(loss, scale)[0].item(), rel=1e-9
    )


def test_obs_of_fewer_examples_than_units_is_that_of_the_whole_matrix() -> None:
    torch.manual_seed(0)
    dense = dense_of(Small().double(), images=40)
    gate_NU = torch.randn(3, 7, dtype=torch.float64)
    gate_NU[:, 2] = 0
    of = collect(dense.net, {"conv": dense.sites["conv"]}, None, Needs.WEIGHTS)["conv"]
    h_UU = gate_NU.T @ gate_NU / 3
    inverse_UU = torch.linalg.inv(h_UU + 0.01 * h_UU.diagonal().mean() * torch.eye(7, dtype=torch.float64))
    found = unit_criteria()["obs"].importance(replace(of, gate_NU=gate_NU))
    torch.testing.assert_close(found, 0.5 / inverse_UU.diagonal(), rtol=1e-9, atol=0)


def test_gathering_leaves_the_network_as_it_was_and_is_done_once(dense: Dense, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: value.clone() for name, value in dense.net.state_dict().items()}
    passes: list[int] = []
    plain = Split.train_loss
    monkeypatch.setattr(Split, "train_loss", lambda self, net: (passes.append(len(self)), plain(self, net))[1])
    judged(dense.net, dict(dense.sites), dense.examples, unit_criteria())
    assert passes == [1] * 40
    assert all(torch.equal(value, before[name]) for name, value in dense.net.state_dict().items())
    assert all(parameter.grad is None for parameter in dense.net.parameters())


def test_what_cannot_be_judged_is_said() -> None:
    class Smooth(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.hidden(torch.tanh(self.conv(x)).flatten(1))))

    dense = dense_of(Smooth().double())
    plain = {name: one for name, one in unit_criteria().items() if name not in OF_THEIR_OWN}
    _, refused = judged(dense.net, dict(dense.sites), dense.examples, plain)
    assert refused == {
        "apoz": {
            site: f"what `{site}` hands on is never zero: no ReLU stands in front of what sums over its units"
            for site in ("conv", "hidden")
        }
    }
    with pytest.raises(ValueError, match="need at least one example"):
        judged(dense.net, dict(dense.sites), None, {"apoz": unit_criteria()["apoz"]})


def examples_for(shape: object) -> Examples:
    chance = torch.Generator().manual_seed(0)
    if isinstance(shape, InputShape):
        size = (3, shape.channels, shape.height, shape.width)
        return Split(
            images_NCHW=torch.randn(size, generator=chance, dtype=torch.float64),
            labels_N=torch.randint(shape.classes, (3,), generator=chance),
        )
    tokens = torch.randint(3, 20, (3, 9), generator=chance)
    return Questions(tokens_NT=tokens, begins_N=torch.full((3,), 4), ends_N=torch.full((3,), 9))


@pytest.mark.parametrize("name", list(zoo.NETWORKS)[3::11])
def test_on_networks_of_every_kind_there_are_finite_numbers_or_a_reason(name: str) -> None:
    factory, shape = zoo.NETWORKS[name]
    net = zoo.made(factory)
    sites = find_sites(net, shape)
    collected = gathered(net, sites, examples_for(shape), unit_criteria())
    for site in sites.values():
        of_weights_UP = unit_weights(net, site)
        sum_U, square_U = unit_moments(net, site, dict(net.named_parameters(remove_duplicate=False)))
        torch.testing.assert_close(sum_U, of_weights_UP.sum(1), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(square_U, of_weights_UP.square().sum(1), rtol=1e-9, atol=1e-9)
        found, refused = judged_of({site.name: collected[site.name]}, unit_criteria())
        assert found.keys() | refused.keys() == set(UNIT_CRITERIA)
        assert {"snip", "fisher"} & found.keys() or site.kind.value == "expert"
        for criterion, of_sites in found.items():
            assert of_sites[site.name].shape == (site.units,), (criterion, site.name)
            assert of_sites[site.name].isfinite().all(), (criterion, site.name)
        assert all(why[site.name] for why in refused.values())


class Biased(nn.Module):
    """Two layers with a computed bias between, which `keeps` says is computed once, as LeViT does, or in every pass."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.bias = nn.Parameter(torch.linspace(-1, 1, 6))
        self._keeps = keeps
        self._kept: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = 2 * self.bias if self._kept is None else self._kept
        self._kept = bias if self._keeps else None
        return self.second((self.first(x.flatten(1)) + bias).relu())


def test_what_a_network_computes_once_and_keeps_is_differentiated_for_every_example() -> None:
    shape = InputShape(channels=1, height=2, width=2, classes=3)
    torch.manual_seed(0)
    keeping = Biased(True).double().eval()
    plain = Biased(False).double().eval()
    plain.load_state_dict(keeping.state_dict())
    sites = find_sites(plain, shape)
    names = {
        name: criterion
        for name, criterion in unit_criteria().items()
        if name in ("fisher", "taylor_weight", "snip", "obd")
    }
    found, known = (judged_of(gathered(net, sites, examples_for(shape), names), names)[0] for net in (keeping, plain))
    assert found.keys() == known.keys() == set(names)
    for name, of_sites in known.items():
        for site, values in of_sites.items():
            torch.testing.assert_close(found[name][site], values, rtol=0, atol=0)


def test_a_stored_study_is_scored_by_criteria(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {**TINY, "cells": [{"prune": {"conv1": 0.5}, "draw": 5}, {"prune": {"conv1": 0.2}, "draw": 3}]}
    study = Study("quickstart", set=facts, store=f"sqlite:///{tmp_path / 's.db'}", progress=Quiet())
    study.run()
    passes: list[int] = []
    plain = Split.train_loss
    with monkeypatch.context() as patched:
        patched.setattr(Split, "train_loss", lambda self, net: (passes.append(len(self)), plain(self, net))[1])
        assert scoring(study).measure(["fisher", "wanda", "lamp"]) == {}
        assert passes == [1] * (64 + 9)  # one pass for both cells and all criteria, and a few for what one takes alone
        assert scoring(study).measure(["fisher", "wanda", "lamp"]) == {}
        assert len(passes) == 64 + 9
    costs = scoring(study).store.costs(study.plan.digest)
    for name in ("fisher@64", "wanda@64", "lamp@64"):
        assert costs[name].keys() == {0, 1}
        assert 0 < costs[name][0] == costs[name][1]  # all masks of a base network are judged together
    table = study.trials().query("cell == 'conv1-0.5'").drop_duplicates("mask")
    criteria: dict[str, UnitCriterion] = {"fisher": unit_criteria()["fisher"]}
    of = scoring(study)
    dense = of._dense(0)
    found, _ = judged(dense.net, {"conv1": dense.sites["conv1"]}, dense.examples, criteria)
    for mask, score in zip(table["mask"], table["fisher@64"], strict=True):
        gone = study.plan.cells[0].space.unrank(mask).pruned["conv1"]
        assert score == pytest.approx(found["fisher"]["conv1"][list(gone)].sum().item(), rel=1e-9)
    assert study.analyze(x="wanda@64")[0].n == 5
