"""Criteria of single weights against a few plain lines each, on layers of every kind; and the masks that they give."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from test_fleet import images
from trueoracle.criteria import CannotJudge, Seen, thrown_away, weigh, weight_criteria
from trueoracle.data import Split
from trueoracle.nets import mask_weights, weight_shapes
from trueoracle.space import WeightSpace, at_pattern, at_ratio
from trueoracle.words.scores import WEIGHT_CRITERIA

RATE = 0.1


class Mixed(nn.Module):
    """A plain, a grouped and a transposed convolution, and linear layers of which one sees several places."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(2, 4, (2, 3), stride=2, padding=1)
        self.grouped = nn.Conv2d(4, 6, 2, groups=2)
        self.up = nn.ConvTranspose2d(6, 3, 2)
        self.mixing, self.head = nn.Linear(3, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.relu(self.grouped(F.relu(self.plain(x)))))
        return self.head(F.relu(self.mixing(x.flatten(2).mT)).mean(1))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(4)
    return Mixed().double()


@pytest.fixture(scope="module")
def split() -> Split:
    train = images(2, 8, 4, train=70).train
    assert isinstance(train, Split)
    return Split(images_NCHW=train.images_NCHW.double(), labels_N=train.labels_N)


@pytest.fixture(scope="module")
def seen(net: nn.Module, split: Split) -> Seen:
    return Seen(net, [*weight_shapes(net)], split, RATE)


def inputs(net: nn.Module, split: Split) -> dict[str, NDArray[np.float64]]:
    """What each layer is given, its input channels last: (everything else, C)."""
    net.eval()
    with torch.no_grad():
        plain = split.images_NCHW
        grouped = F.relu(net.plain(plain))
        up = F.relu(net.grouped(grouped))
        mixing = net.up(up).flatten(2).mT
        head = F.relu(net.mixing(mixing)).mean(1)
    channels = [plain.movedim(1, -1), grouped.movedim(1, -1), up.movedim(1, -1), mixing, head]
    return {name: x.flatten(0, -2).numpy() for name, x in zip(weight_shapes(net), channels, strict=True)}


def by_hand(net: nn.Module, split: Split) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Every criterion of every weight, one weight after another."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in WEIGHT_CRITERIA}
    given, moved = inputs(net, split), movement(net, split)
    for name in weight_shapes(net):
        weight = net.get_parameter(f"{name}.weight")
        w = weight.detach().numpy()
        each = []
        for n in range(len(split)):
            loss = F.cross_entropy(net(split.images_NCHW[n : n + 1]), split.labels_N[n : n + 1])
            each.append(torch.autograd.grad(loss, weight)[0].numpy())
        whole = F.cross_entropy(net(split.images_NCHW), split.labels_N)
        of_mean = torch.autograd.grad(whole, weight)[0].numpy()
        norm, wanda, ria, lamp = (
            np.sqrt((given[name] ** 2).sum(0)),
            np.empty(w.shape),
            np.empty(w.shape),
            np.empty(w.shape),
        )
        channel = np.vectorize(lambda o, i, name=name: o // 3 * 2 + i if name == "grouped" else i)
        for place in np.ndindex(*w.shape):
            output, inner = (place[1], place[0]) if name == "up" else place[:2]
            x = norm[channel(output, inner)]
            axis = 1 if name == "up" else 0
            row, column = np.take(w, place[axis], axis), np.take(w, place[1 - axis], 1 - axis)
            wanda[place] = abs(w[place]) * x
            ria[place] = (abs(w[place]) / abs(row).sum() + abs(w[place]) / abs(column).sum()) * x**0.5
            lamp[place] = w[place] ** 2 / (w[abs(w) >= abs(w[place])] ** 2).sum()
        found["magnitude"][name] = abs(w)
        found["snip"][name] = abs(w * of_mean)
        found["obd"][name] = np.mean([g**2 for g in each], 0) * w**2 / 2
        found["wanda"][name], found["ria"][name], found["lamp"][name] = wanda, ria, lamp
        found["movement"][name] = moved[name]
    return found


def movement(net: nn.Module, split: Split) -> dict[str, NDArray[np.float64]]:
    """Two steps of 32 examples and one of 6, of all weights."""
    own = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    layers = [*weight_shapes(net)]
    total = {name: np.zeros(net.get_parameter(f"{name}.weight").shape) for name in layers}
    for part in (slice(0, 32), slice(32, 64), slice(64, 70)):
        logits = torch.func.functional_call(net, own, (split.images_NCHW[part],))
        loss = F.cross_entropy(logits, split.labels_N[part])
        found = torch.autograd.grad(loss, [*own.values()])
        for (name, w), g in zip([*own.items()], found, strict=True):
            if name.endswith("weight"):
                total[name.removesuffix(".weight")] -= RATE * (g * w).detach().numpy()
            own[name] = (w - RATE * g).detach().requires_grad_()
    return total


def test_every_criterion_says_what_a_few_plain_lines_say(net: nn.Module, split: Split, seen: Seen) -> None:
    wanted = by_hand(net, split)
    assert [*weight_criteria()] == [*WEIGHT_CRITERIA] == [*wanted]
    for name, criterion in weight_criteria().items():
        for layer, values in wanted[name].items():
            np.testing.assert_allclose(
                criterion(seen[layer]), values, rtol=1e-9, atol=1e-15, err_msg=f"{name} of {layer}"
            )


def test_equal_weights_have_equal_lamp() -> None:
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -1.0, 2.0], [0.0, 0.0, 1.0]]))
    found = weight_criteria()["lamp"](Seen(nn.Sequential(net), ["0"])["0"])
    assert found.tolist() == pytest.approx(np.array([[1 / 7, 1 / 7, 1], [0, 0, 1 / 7]]))


def test_the_mask_of_a_criterion_keeps_its_best_in_every_group(net: nn.Module, seen: Seen) -> None:
    shapes = weight_shapes(net)
    pooled = WeightSpace((at_ratio("*", shapes, 0.7),))
    rows = WeightSpace((at_pattern("plain", {"plain": shapes["plain"]}, 1, 2),))
    for name, criterion in weight_criteria().items():
        scores = weigh(seen, pooled.sites, criterion)
        mask = pooled.best(scores, name)
        gone = mask.gone_by_site["*"]
        assert gone.sum() == pooled.sites[0].pruned
        assert scores["*"][gone].max() <= scores["*"][~gone].min()
        assert mask.criterion == name
        assert thrown_away(mask, scores) == pytest.approx(scores["*"][gone].sum())
        of_layer = criterion(seen["plain"])
        masked = mask_weights(net, rows.best(weigh(seen, rows.sites, criterion)))
        chosen = masked.get_parameter("plain.weight") != 0
        assert torch.equal(chosen[:, 0], of_layer[:, 0] >= of_layer[:, 1])
        assert torch.equal(chosen[:, 1], of_layer[:, 1] > of_layer[:, 0])


def test_the_network_stays_as_it_is(net: nn.Module, split: Split) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    frozen = Mixed().double()
    frozen.load_state_dict(before)
    frozen.requires_grad_(False)
    seen = Seen(frozen, [*weight_shapes(frozen)], split, RATE)
    for criterion in weight_criteria().values():
        for layer in weight_shapes(frozen):
            assert criterion(seen[layer]).shape == frozen.get_parameter(f"{layer}.weight").shape
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_without_examples_only_the_weights_are_seen(net: nn.Module) -> None:
    seen = Seen(net, ["head"])
    assert torch.equal(weight_criteria()["magnitude"](seen["head"]), net.get_parameter("head.weight").detach().abs())
    for name in ("snip", "wanda", "movement"):
        with pytest.raises(ValueError, match="need at least one example"):
            weight_criteria()[name](seen["head"])


class Reader(nn.Module):
    """Its attention reads the weights of a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, 2)
        return self.head(self.attention(x, x, x)[0].mean(1))


def test_a_layer_that_is_never_called_has_no_inputs_to_be_judged_by(split: Split) -> None:
    net = Reader().double()
    assert weight_shapes(net) == {"attention.out_proj": (8, 8), "head": (4, 8)}
    seen = Seen(net, [*weight_shapes(net)], split, RATE)
    assert weight_criteria()["wanda"](seen["head"]).shape == (4, 8)
    assert weight_criteria()["snip"](seen["attention.out_proj"]).abs().max() > 0
    with pytest.raises(CannotJudge, match="`attention.out_proj` was called in a way that does not tell"):
        weight_criteria()["wanda"](seen["attention.out_proj"])
