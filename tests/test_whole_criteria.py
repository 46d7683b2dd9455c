"""Criteria that go through the network in a way of their own, against plain lines that follow their definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.func import functional_call

import odd_networks
import zoo
from test_unit_criteria import examples_for
from trueoracle.criteria import CannotJudge, Collected, Needs, collect, unit_criteria
from trueoracle.criteria.inf_fs import inf_fs
from trueoracle.criteria.units import chip
from trueoracle.data import Split
from trueoracle.nets import find_sites
from trueoracle.words.shape import InputShape

NAMES = ("chip", "grasp", "hrank", "nisp", "synflow")
SHAPE = InputShape(channels=1, height=6, width=6, classes=3)
Array = NDArray[np.float64]


class Deep(nn.Module):
    """Two convolutions with a BatchNorm between, a hidden layer behind the second's flattened maps, and the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.second = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 3, 3, stride=3),
        )
        self.hidden, self.head = nn.Linear(12, 5), nn.Linear(5, 3)
        nn.init.uniform_(self.norm.weight, -1, 1)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What reaches the second convolution, the hidden layer and the classifier."""
        one = F.relu(self.norm(self.conv(x)))
        two = F.relu(self.second(one))
        return one, two, F.relu(self.hidden(two.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x)[2])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def net() -> Deep:
    torch.manual_seed(2)
    return Deep().double().eval()


@pytest.fixture(scope="module")
def split() -> Split:
    chance = torch.Generator().manual_seed(3)
    images = torch.randn(40, 1, 6, 6, generator=chance, dtype=torch.float64)
    return Split(images_NCHW=images, labels_N=torch.randint(3, (40,), generator=chance))


@pytest.fixture(scope="module")
def collected(net: Deep, split: Split) -> dict[str, Collected]:
    return collect(net, find_sites(net, SHAPE), split, Needs.EXAMPLES)


def said(name: str, of: Collected) -> list[float]:
    found: list[float] = unit_criteria()[name].importance(of).tolist()
    return found


def test_grasp_is_the_weights_times_the_whole_hessian_times_the_gradient(
    net: Deep, split: Split, collected: dict[str, Collected]
) -> None:
    named, few = dict(net.named_parameters()), split.take(slice(32))  # so many does it look at
    at = torch.cat([p.detach().flatten() for p in named.values()])

    def loss(w: Tensor) -> Tensor:
        parts = w.split([p.numel() for p in named.values()])
        state = {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}
        return F.cross_entropy(functional_call(net, state, (few.images_NCHW,)) / 200, few.labels_N)

    gradient = torch.autograd.functional.jacobian(loss, at)
    product = torch.autograd.functional.hessian(loss, at) @ gradient
    by_name = dict(zip(named, (at * product).split([p.numel() for p in named.values()]), strict=True))
    for site in ("conv", "second", "hidden"):
        wanted = by_name[f"{site}.weight"].view(len(named[f"{site}.weight"]), -1).sum(1).tolist()
        assert said("grasp", collected[site]) == pytest.approx(wanted, rel=1e-7, abs=1e-20), site
    # What it says: along the weights of a filter, the squared gradient falls by twice its importance.
    squared = lambda w: torch.autograd.functional.jacobian(loss, w).square().sum()  # noqa: E731
    filter_0 = torch.zeros_like(at)
    filter_0[:9] = at[:9]
    change = (squared(at - 1e-5 * filter_0) - squared(at + 1e-5 * filter_0)) / 2e-5
    assert change.item() == pytest.approx(-2 * said("grasp", collected["conv"])[0], rel=1e-5)


def matrix(layer: nn.Conv2d | nn.Linear, *shape: int) -> Array:
    """A layer's absolute weights as the matrix that takes its flattened input to its flattened output."""
    unit = torch.eye(int(np.prod(shape)), dtype=torch.float64).view(-1, *shape)
    if isinstance(layer, nn.Linear):
        return layer.weight.detach().abs().numpy()
    out = F.conv2d(unit, layer.weight.detach().abs(), stride=layer.stride, padding=layer.padding)
    return out.flatten(1).T.numpy()


def product_of(net: Deep, gone: str = "", unit: int = 0) -> list[Array]:
    """The network as matrices, first layer first, without the rows that make one unit."""
    var = net.norm.running_var
    assert var is not None
    scale = (net.norm.weight.detach().abs() / (var + net.norm.eps).sqrt()).numpy()
    layers = [
        matrix(net.conv, 1, 6, 6),
        np.diag(scale.repeat(36)),
        matrix(net.second, 4, 6, 6),
        matrix(net.hidden),
        matrix(net.head),
    ]
    if gone:
        place, units = {"conv": (0, 4), "second": (2, 3), "hidden": (3, 5)}[gone]
        layers[place] = layers[place].copy()
        layers[place].reshape(units, -1, layers[place].shape[1])[unit] = 0
    return layers


def flow(layers: list[Array]) -> float:
    through = np.ones(layers[0].shape[1])
    for layer in layers:
        through = layer @ through
    return float(through.sum())


def test_synflow_is_the_flow_that_is_lost_with_the_unit(net: Deep, collected: dict[str, Collected]) -> None:
    whole = flow(product_of(net))
    for site, units in {"conv": 4, "second": 3, "hidden": 5}.items():
        wanted = [1 - flow(product_of(net, site, unit)) / whole for unit in range(units)]
        assert said("synflow", collected[site]) == pytest.approx(wanted, rel=1e-9), site
        assert sum(said("synflow", collected[site])) == pytest.approx(1)  # all of it flows through every layer


def plain_inf_fs(x: Array) -> Array:
    """As the sum over ever longer paths."""
    n = x.shape[1]
    deviation = [x[:, f].std() for f in range(n)]
    spread = np.array([[max(a, b) for b in deviation] for a in deviation])
    spread = (spread - spread.min()) / (spread - spread.min()).max()
    alike = [
        [0.0 if 0 in (deviation[f], deviation[g]) else spearmanr(x[:, f], x[:, g])[0] for g in range(n)]
        for f in range(n)
    ]
    a = 0.5 * (1 - abs(np.array(alike))) + 0.5 * spread
    step = 0.9 / abs(np.linalg.eigvals(a)).max() * a
    total, longer = np.zeros((n, n)), np.eye(n)
    for _ in range(400):
        longer = longer @ step
        total += longer
    found: Array = total.sum(1)
    return found


def test_infinite_feature_selection_sums_over_all_paths() -> None:
    x = np.random.default_rng(1).normal(size=(30, 6)).clip(-0.5) * np.array([1, 2, 3, 0.1, 1, 0])
    assert inf_fs(torch.from_numpy(x)).tolist() == pytest.approx(plain_inf_fs(x).tolist(), rel=1e-9)
    assert inf_fs(torch.ones(4, 3)).tolist() == pytest.approx(
        [9] * 3
    )  # nothing tells them apart: r A is 0.9 / 3 everywhere
    assert inf_fs(torch.ones(4, 1)).isfinite().all()


def test_nisp_goes_back_through_the_absolute_weights(net: Deep, split: Split, collected: dict[str, Collected]) -> None:
    with torch.no_grad():
        score = plain_inf_fs(net.maps(split.images_NCHW)[2].numpy())
    _, _, second, hidden, _ = product_of(net)
    assert said("nisp", collected["hidden"]) == pytest.approx(score.tolist(), rel=1e-9)
    places = hidden.T @ score
    assert said("nisp", collected["second"]) == pytest.approx(places.reshape(3, 4).sum(1).tolist(), rel=1e-9)
    places = second.T @ places
    assert said("nisp", collected["conv"]) == pytest.approx(places.reshape(4, 36).sum(1).tolist(), rel=1e-9)


def test_hrank_is_the_mean_rank_of_the_maps(net: Deep, split: Split, collected: dict[str, Collected]) -> None:
    with torch.no_grad():
        maps = net.maps(split.images_NCHW[:32])[0].numpy()
    wanted = [np.mean([np.linalg.matrix_rank(image[unit]) for image in maps]) for unit in range(4)]
    assert said("hrank", collected["conv"]) == pytest.approx(wanted)
    assert len(set(wanted)) > 1
    for site in ("second", "hidden"):
        with pytest.raises(CannotJudge, match=f"of the units of `{site}` no convolution is given maps with rows"):
            said("hrank", collected[site])


def lost(a: Array) -> list[float]:
    """The nuclear norm that goes with each row, by a decomposition for each."""
    return [float(np.linalg.norm(a, "nuc") - np.linalg.norm(np.delete(a, row, 0), "nuc")) for row in range(len(a))]


def test_chip_is_the_nuclear_norm_that_goes_with_the_unit(
    net: Deep, split: Split, collected: dict[str, Collected]
) -> None:
    with torch.no_grad():
        one, two, _ = net.maps(split.images_NCHW[:32])
    for site, maps in (("conv", one.flatten(2)), ("second", two.flatten(2))):
        wanted = np.mean([lost(image.numpy()) for image in maps], 0)
        assert said("chip", collected[site]) == pytest.approx(wanted.tolist(), rel=1e-7), site
    with pytest.raises(CannotJudge, match="of the units of `hidden` no maps are handed on, but a number each"):
        said("chip", collected["hidden"])


@pytest.mark.parametrize(("rows", "columns"), [(5, 20), (12, 7), (30, 4), (1, 6), (6, 1)])
def test_independence_of_one_decomposition_is_that_of_one_a_row(rows: int, columns: int) -> None:
    a = np.random.default_rng(rows).normal(size=(rows, columns)) * np.logspace(0, -4, rows)[:, None]
    assert chip.independence(torch.from_numpy(a)).tolist() == pytest.approx(lost(a), rel=1e-6, abs=1e-9)
    if rows > 3:
        a[1], a[2], a[3] = 0, a[0], -2 * a[0]  # a row of zeros, and rows that others hold
        assert chip.independence(torch.from_numpy(a)).tolist() == pytest.approx(lost(a), rel=1e-6, abs=1e-7)
    assert chip.independence(torch.zeros(3, 2)).tolist() == [0, 0, 0]


class Fails(Deep):
    """Runs so many times, then no more."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).runs -= 1
        if self.runs < 0:
            raise RuntimeError("that was once too often")
        return super().forward(x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("runs", [100, 3, 1])
def test_nothing_of_it_is_left_in_the_network(name: str, runs: int, split: Split) -> None:
    torch.manual_seed(0)
    net = Fails().double().eval()
    net.hidden.weight.requires_grad_(False)
    Fails.runs = 1000
    sites = find_sites(net, SHAPE)
    before = {key: (value, value.detach().clone()) for key, value in net.state_dict(keep_vars=True).items()}
    modules = [vars(module).keys() for module in net.modules()]
    answer = net(split.images_NCHW)
    Fails.runs = runs
    ended = "whole"
    try:
        said(name, collect(net, sites, split.take(slice(4)), Needs.EXAMPLES)["conv"])
    except RuntimeError as error:
        ended = str(error)
    assert ended == ("whole" if runs == 100 else "that was once too often")
    Fails.runs = 1
    after = net.state_dict(keep_vars=True)
    assert all(after[key] is value and torch.equal(value, copy) for key, (value, copy) in before.items())
    assert [p.requires_grad for p in net.parameters()] == [p is not net.hidden.weight for p in net.parameters()]
    assert all(p.grad is None for p in net.parameters())
    assert [vars(module).keys() for module in net.modules()] == modules
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert torch.equal(net(split.images_NCHW), answer)


class Gated(nn.Module):
    """Channels times what is made of them: no product of weights, but of their squares."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        return self.head(x * torch.sigmoid(self.gate(x)))  # type: ignore[no-any-return]


class Centred(Deep):
    """Of what comes in, nothing but differences."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("name", ["nisp", "synflow"])
def test_what_is_no_product_of_weights_is_refused(name: str, split: Split) -> None:
    for network, reason in (
        (Gated, "no product of weights: of twice the input it makes 4 times as much"),
        (Centred, "the network makes 0 of ones: nothing flows"),
    ):
        net = network().double().eval()
        of = collect(net, find_sites(net, SHAPE), split, Needs.EXAMPLES)["conv"]
        for _ in range(2):  # the refusal is kept as well
            with pytest.raises(CannotJudge, match=reason):
                said(name, of)


def test_a_network_without_second_derivatives_is_refused(split: Split) -> None:
    class Hard(Deep):
        def forward(self, x: Tensor) -> Tensor:
            return F.hardsigmoid(super().forward(x))

    net = Hard().double().eval()
    of = collect(net, find_sites(net, SHAPE), split, Needs.EXAMPLES)["conv"]
    with pytest.raises(CannotJudge, match="no derivative here: .*hardsigmoid_backward is not implemented"):
        said("grasp", of)


def test_one_pass_serves_all_sites(net: Deep, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, ...]] = []
    plain = Deep.forward
    monkeypatch.setattr(Deep, "forward", lambda self, x: (runs.append(tuple(x.shape)), plain(self, x))[1])
    found = collect(net, find_sites(net, SHAPE), split, Needs.EXAMPLES)
    runs.clear()
    expected = {"grasp": 2 * 32, "synflow": 3 + 2, "nisp": 40 + 1, "chip": 32}
    for name, passes in expected.items():
        for of in found.values():
            try:
                said(name, of)
            except CannotJudge:
                continue
        assert len(runs) == passes, name
        runs.clear()


EVERY = {**{n: (f, s) for n, (f, s) in zoo.NETWORKS.items() if not n.startswith("language")}} | {
    f"odd: {name}": (factory, zoo.LARGER) for name, factory in odd_networks.NETWORKS.items()
}


@pytest.mark.parametrize("name", list(EVERY)[2::11])
def test_finite_numbers_or_a_reason(name: str) -> None:
    factory, shape = EVERY[name]
    net = zoo.made(factory)
    found = collect(net, find_sites(net, shape), examples_for(shape), Needs.EXAMPLES)
    judged = 0
    for of in found.values():
        for criterion in NAMES:
            try:
                importance = unit_criteria()[criterion].importance(of)
            except CannotJudge:
                continue
            judged += 1
            assert importance.shape == (of.site.units,), (criterion, of.site.name)
            assert importance.dtype == torch.float64
            assert importance.isfinite().all(), (criterion, of.site.name)
    assert judged or not found
