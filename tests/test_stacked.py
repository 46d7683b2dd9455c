"""The stacked backend against the plain loop, network by network."""

import re
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from trueoracle.data import Dataset, Split, load_dataset
from trueoracle.fleet import Trained, assign, train, train_fleet
from trueoracle.fleet.stacked import bytes_a_network, fleet_size
from trueoracle.nets import build
from trueoracle.words.errors import ModelError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Distillation, Recipe
from trueoracle.words.trial import Outcome

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
SGD = Recipe(optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=50, epochs=2,
             schedule="step", milestones=(1,))  # fmt: skip
ADAMW = Recipe(optimiser="adamw", lr=0.002, weight_decay=0.05, batch_size=50, epochs=2, schedule="cosine")
TAUGHT = SGD.model_copy(update={"distill": Distillation(weight=0.4, temperature=3.0)})


class Residual(nn.Module):
    """A block of every kind that the larger networks have: BatchNorm, a shortcut, average pooling."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(1, 4, 3, stride=2, bias=False)
            self.bn1 = nn.BatchNorm2d(4)
            self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = (x + self.bn2(self.conv2(x))).relu()
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def train_stacked(*arguments: object, **more: object) -> list[Trained]:
    return train_fleet(*arguments, **more, backend="stacked")  # type: ignore[arg-type]


def lenet(seed: int) -> nn.Module:
    return build("lenet5-mini", SHAPE, seed=seed)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Some digits in float64, so that only a wrong step can make a difference."""
    digits = load_dataset("digits", None, torch.device("cpu"), Quiet())
    train_split, test_split = (
        Split(images_NCHW=split.images_NCHW[:count].double(), labels_N=split.labels_N[:count])
        for split, count in ((digits.train, 120), (digits.test, 40))
    )
    return Dataset(**{**vars(digits), "train": train_split, "test": test_split})


@pytest.mark.parametrize("recipe", [SGD, ADAMW, TAUGHT], ids=["sgd", "adamw", "taught"])
@pytest.mark.parametrize("make", [lenet, Residual])
def test_every_member_trains_as_it_would_alone(make: Callable[[int], nn.Module], recipe: Recipe, data: Dataset) -> None:
    *nets, teacher = (make(seed).double() for seed in range(4))
    found = train_stacked(nets, data, recipe, order_seed=4, teacher=teacher)
    for net, stacked in zip(nets, found, strict=True):
        alone = train(net, data, recipe, order_seed=4, teacher=teacher.eval())
        torch.testing.assert_close(dict(stacked.net.state_dict()), dict(alone.net.state_dict()), rtol=1e-7, atol=1e-9)
        for ours, theirs in zip(stacked.curve, alone.curve, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-7)
            assert ours.test_accuracy == theirs.test_accuracy
        assert not stacked.net.training


def test_each_member_keeps_its_own_best_epoch(data: Dataset) -> None:
    recipe = Recipe(optimiser="sgd", lr=0.3, momentum=0.9, batch_size=40, epochs=4, keep="best_on_test")
    nets = [lenet(seed).double() for seed in range(3)]
    for net, stacked in zip(nets, train_stacked(nets, data, recipe, order_seed=4), strict=True):
        alone = train(net, data, recipe, order_seed=4)
        torch.testing.assert_close(dict(stacked.net.state_dict()), dict(alone.net.state_dict()), rtol=1e-6, atol=1e-8)


def test_a_network_that_is_no_number_reaches_no_other(data: Dataset) -> None:
    nets = [Residual(seed).double() for seed in range(3)]
    alone = train_stacked([nets[0], nets[2]], data, SGD, order_seed=1)
    with torch.no_grad():
        nets[1].head.weight.fill_(float("inf"))
    first, wild, last = train_stacked(nets, data, SGD, order_seed=1)
    assert (wild.outcome, wild.curve) == (Outcome.DIVERGED, ())
    for ours, theirs in zip((first, last), alone, strict=True):
        assert ours.outcome is Outcome.FINISHED
        assert ours.curve[-1].train_loss == pytest.approx(theirs.curve[-1].train_loss, rel=1e-9)


def test_memory_of_a_network_grows_with_its_batch_and_holds_its_activations(data: Dataset) -> None:
    net = lenet(0).double()
    small, large = (bytes_a_network(net, data, size) for size in (10, 20))
    weights = 8 * sum(p.numel() for p in net.parameters())
    first_layer = 8 * 10 * 28 * 28
    assert large - small > 10 * first_layer
    assert small > 6 * weights
    assert fleet_size(net, data, 10) == 16


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(x.mean((1, 2))))
        return logits


class Cumulative(Residual):
    """BatchNorm whose momentum depends on a count, which is a number of Python's."""

    def __init__(self) -> None:
        super().__init__(0)
        self.bn1 = nn.BatchNorm2d(4, momentum=None)


def frozen() -> nn.Module:
    net = Residual(0)
    net.conv1.weight.requires_grad_(False)
    return net


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Attention, "has weights in a layer of another kind (`LayerNorm`)"),
        (lambda: nn.Sequential(Residual(0), nn.Dropout()), "draws at random (`1`)"),
        (Cumulative, "cannot be followed by vmap"),
        (frozen, "has frozen weights (`conv1.weight`)"),
    ],
)
def test_what_cannot_be_stacked_is_refused_with_the_reason(
    make: Callable[[], nn.Module], why: str, data: Dataset
) -> None:
    with pytest.raises(ModelError, match=re.escape(f"the backend `stacked` cannot train this: the network {why}")):
        assign(make().double(), data, SGD, "stacked")


class Noting(nn.BatchNorm2d):
    """Notes the types that it is given."""

    seen: ClassVar[set[torch.dtype]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(x.dtype)
        return super().forward(x)


def test_batchnorm_stays_in_float32_where_products_are_in_bfloat16() -> None:
    digits = load_dataset("digits", None, torch.device("cpu"), Quiet())
    net = Residual(0)
    net.bn1 = Noting(4)
    recipe = SGD.model_copy(
        update={"precision": "bfloat16", "steps": 1, "epochs": 1, "milestones": (), "schedule": "constant"}
    )
    (trained,) = train_stacked([net], digits, recipe, 0)
    assert Noting.seen == {torch.float32}
    assert not trained.net.bn1._forward_pre_hooks
