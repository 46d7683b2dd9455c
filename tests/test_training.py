"""The training loop against steps written out, and which epoch's figures count."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trueoracle.data import Dataset, load_dataset
from trueoracle.fleet import Stopped, evaluated, train
from trueoracle.fleet.schedule import learning_rate
from trueoracle.nets import build
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, final_figures

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits", None, torch.device("cpu"), Quiet())


def figures(test_accuracy: float, loss: float = 1.0) -> Figures:
    return Figures(train_loss=loss, train_accuracy=0.5, test_loss=loss, test_accuracy=test_accuracy)


def test_momentum_sgd_does_the_steps_of_the_definition(data: Dataset) -> None:
    recipe = Recipe(optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=700, epochs=2)
    start = build("lenet5-mini", SHAPE, seed=3).double()
    double = Dataset(**{**vars(data), "train": doubled(data.train), "test": doubled(data.test)})
    net = deepcopy(start)
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for epoch in range(2):
        order = np.random.default_rng([5, epoch]).permutation(1437)
        for batch in (order[:700], order[700:1400], order[1400:]):
            loss = F.cross_entropy(net(double.train.images_NCHW[batch]), double.train.labels_N[batch])
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for p, v, g in zip(net.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g + 0.01 * p)
                    p.sub_(0.05 * v)
    trained = train(start, double, recipe, order_seed=5)
    for ours, theirs in zip(trained.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert trained.curve[-1] == evaluated(trained.net, double).figures


def doubled(split: object) -> object:
    return type(split)(images_NCHW=split.images_NCHW.double(), labels_N=split.labels_N)  # type: ignore[attr-defined, call-arg]


def test_adamw_is_torchs(data: Dataset) -> None:
    recipe = Recipe(optimiser="adamw", lr=1e-3, weight_decay=0.1, batch_size=1437, epochs=1)
    start = build("lenet5-mini", SHAPE, seed=3)
    net = deepcopy(start)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    F.cross_entropy(net(data.train.images_NCHW), data.train.labels_N).backward()
    optimiser.step()
    ours = train(start, data, recipe, order_seed=0).net
    for a, b in zip(ours.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_given_network_is_left_as_it_was(data: Dataset) -> None:
    start = build("lenet5-mini", SHAPE, seed=3)
    before = deepcopy(start.state_dict())
    train(start, data, Recipe(optimiser="sgd", lr=0.1, batch_size=256, epochs=1), order_seed=0)
    torch.testing.assert_close(dict(start.state_dict()), dict(before), rtol=0, atol=0)


def test_the_kept_epoch_can_be_the_best_on_test(data: Dataset) -> None:
    recipe = Recipe(optimiser="sgd", lr=0.3, momentum=0.9, batch_size=64, epochs=4, keep="best_on_test")
    trained = train(build("lenet5-mini", SHAPE, seed=1), data, recipe, order_seed=1)
    best = max(trained.curve, key=lambda f: f.test_accuracy)
    assert best != trained.curve[-1]
    assert evaluated(trained.net, data).figures == best


def test_a_stop_is_obeyed_before_the_next_step(data: Dataset) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        train(build("lenet5-mini", SHAPE), data, Recipe(optimiser="sgd", lr=0.1, batch_size=64, epochs=1), 0,
              stop=lambda: next(asked))  # fmt: skip
    assert next(asked, "no further question") == "no further question"


def test_a_diverging_training_keeps_its_curve_up_to_there(data: Dataset) -> None:
    recipe = Recipe(optimiser="sgd", lr=1e4, batch_size=64, epochs=3)
    trained = train(build("lenet5-mini", SHAPE), data, recipe, order_seed=0)
    assert trained.outcome is Outcome.DIVERGED
    assert all(f.finite() for f in trained.curve)
    assert len(trained.curve) < 3


def test_schedules_by_hand() -> None:
    step = Recipe(optimiser="sgd", lr=1.0, batch_size=1, epochs=6, schedule="step", milestones=(2, 4), factor=0.1)
    assert [learning_rate(step, e) for e in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Recipe(optimiser="sgd", lr=2.0, batch_size=1, epochs=4, schedule="cosine")
    assert [learning_rate(cosine, e) for e in range(4)] == pytest.approx([2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5)])
    constant = Recipe(optimiser="sgd", lr=0.3, batch_size=1, epochs=9)
    assert {learning_rate(constant, e) for e in range(9)} == {0.3}


def test_final_figures_by_protocol() -> None:
    curve = [figures(a, loss) for a, loss in zip([0.1, 0.7, 0.9, 0.9, 0.6, 0.8], [9, 8, 7, 6, 5, 4], strict=True)]
    assert final_figures(curve, FinalProtocol.LAST) == curve[-1]
    assert final_figures(curve, FinalProtocol.BEST_ON_TEST) == curve[2]
    mean = final_figures(curve, FinalProtocol.MEAN_LAST_5)
    assert (mean.test_accuracy, mean.test_loss) == (pytest.approx(0.78), 6)
    assert final_figures(curve[:2], FinalProtocol.MEAN_LAST_5).test_accuracy == pytest.approx(0.4)
    with pytest.raises(ValueError, match="at least one epoch"):
        final_figures([], FinalProtocol.LAST)
