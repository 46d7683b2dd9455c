"""The stacked backend against the plain loop, network by network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trueoracle.data import Dataset, Split, load_dataset
from trueoracle.fleet import Stopped, Trained, train, train_fleet
from trueoracle.nets import build
from trueoracle.progress import Quiet
from trueoracle.shape import InputShape
from trueoracle.spec import Recipe
from trueoracle.trial import Outcome

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
SGD = Recipe(optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=50, epochs=2,
             schedule="step", milestones=(1,))  # fmt: skip
ADAMW = Recipe(optimiser="adamw", lr=0.002, weight_decay=0.05, batch_size=50, epochs=2, schedule="cosine")


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


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("make", [lenet, Residual])
def test_every_member_trains_as_it_would_alone(make: Callable[[int], nn.Module], recipe: Recipe, data: Dataset) -> None:
    nets = [make(seed).double() for seed in range(3)]
    for net, stacked in zip(nets, train_stacked(nets, data, recipe, order_seed=4), strict=True):
        alone = train(net, data, recipe, order_seed=4)
        torch.testing.assert_close(dict(stacked.net.state_dict()), dict(alone.net.state_dict()), rtol=1e-7, atol=1e-9)
        for ours, theirs in zip(stacked.curve, alone.curve, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-7)
            assert ours.test_accuracy == theirs.test_accuracy
        assert not stacked.net.training


def test_a_diverging_member_is_frozen_and_the_others_go_on(data: Dataset) -> None:
    nets = [lenet(seed).double() for seed in range(3)]
    alone = train_stacked([nets[0], nets[2]], data, SGD, order_seed=1)
    with torch.no_grad():
        nets[1].get_submodule("fc2").weight.fill_(float("inf"))
    first, wild, last = train_stacked(nets, data, SGD, order_seed=1)
    assert wild.outcome is Outcome.DIVERGED
    assert wild.curve == ()
    assert first.outcome is last.outcome is Outcome.FINISHED
    for ours, theirs in zip((first, last), alone, strict=True):
        assert ours.curve[-1].train_loss == pytest.approx(theirs.curve[-1].train_loss, rel=1e-9)


def test_each_member_keeps_its_own_best_epoch(data: Dataset) -> None:
    recipe = Recipe(optimiser="sgd", lr=0.3, momentum=0.9, batch_size=40, epochs=4, keep="best_on_test")
    nets = [lenet(seed).double() for seed in range(3)]
    for net, stacked in zip(nets, train_stacked(nets, data, recipe, order_seed=4), strict=True):
        alone = train(net, data, recipe, order_seed=4)
        torch.testing.assert_close(dict(stacked.net.state_dict()), dict(alone.net.state_dict()), rtol=1e-6, atol=1e-8)


def test_a_stop_is_obeyed(data: Dataset) -> None:
    with pytest.raises(Stopped):
        train_stacked([lenet(0).double()], data, SGD, 0, stop=lambda: True)
