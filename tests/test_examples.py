"""What the plain loops ask of examples, on images by hand, and what paths that serve images alone say of others."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data import Dataset, Split, images_of
from trueoracle.fleet import assign, train
from trueoracle.nets import build, evaluate
from trueoracle.words.errors import DataError, ModelError
from trueoracle.words.examples import Classified, Examples, Judged
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

SHAPE = InputShape(channels=1, height=32, width=32, classes=2)


@dataclass(frozen=True)
class Numbers:
    """Examples of a task of their own: a straight line's values are to be hit within a tenth."""

    x_N: Tensor
    y_N: Tensor
    at_once: int = 3

    def __len__(self) -> int:
        return len(self.x_N)

    @property
    def device(self) -> torch.device:
        return self.x_N.device

    def take(self, chosen: Tensor | slice) -> "Numbers":
        return Numbers(self.x_N[chosen], self.y_N[chosen])

    def train_loss(self, net: nn.Module) -> Tensor:
        return F.mse_loss(net(self.x_N), self.y_N)

    def judge(self, net: nn.Module) -> Judged:
        wrong_B = (net(self.x_N).double() - self.y_N)[:, 0]
        return Judged(loss_B=wrong_B**2, right_B=wrong_B.abs() < 0.1)


class Fixed(nn.Module):
    """Logits that are its images."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


@pytest.fixture
def line() -> Dataset:
    x_N = torch.linspace(-1, 1, 10)[:, None]
    split = Numbers(x_N, 3 * x_N + 1)
    return Dataset(name="line", shape=SHAPE, train=split, test=split.take(slice(4)), fingerprint="")


def test_images_are_judged_by_hand() -> None:
    split = Split(images_NCHW=torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), labels_N=torch.tensor([0, 1, 1]))
    judged = split.judge(Fixed())
    expected = torch.tensor([0.693147, 2.126928, 0.313262], dtype=torch.float64)
    torch.testing.assert_close(judged.loss_B, expected, rtol=0, atol=1e-6)
    assert judged.right_B.tolist() == [True, False, True]
    assert split.train_loss(Fixed()).item() == pytest.approx(3.133337 / 3, abs=1e-6)
    found = evaluate(Fixed(), split)
    assert (found.loss, found.accuracy) == (pytest.approx(3.133337 / 3, abs=1e-6), pytest.approx(2 / 3))


def test_examples_are_taken_by_place_and_by_slice() -> None:
    split = Split(images_NCHW=torch.arange(5.0).reshape(5, 1, 1, 1), labels_N=torch.arange(5))
    assert split.take(torch.tensor([3, 1])).labels_N.tolist() == [3, 1]
    assert split.take(slice(3, None)).images_NCHW.flatten().tolist() == [3, 4]


def test_the_loops_serve_any_task(line: Dataset) -> None:
    recipe = Recipe(optimiser="sgd", lr=0.2, batch_size=4, epochs=60)
    trained = train(nn.Linear(1, 1), line, recipe, order_seed=0)
    assert trained.curve[0].test_loss > 1e-3
    assert trained.curve[-1].test_loss < 1e-6
    assert trained.curve[-1].train_accuracy == 1.0
    assert evaluate(trained.net, line.train).loss == trained.curve[-1].train_loss


def test_a_mean_over_batches_weighs_every_example_alike(line: Dataset) -> None:
    net = nn.Linear(1, 1)
    whole = evaluate(net, replace(line.train, at_once=10))  # type: ignore[type-var]
    assert evaluate(net, line.train).loss == pytest.approx(whole.loss, rel=1e-12)


def test_fast_paths_refuse_other_examples_with_a_reason(line: Dataset) -> None:
    net = build("lenet5-mini", SHAPE)
    recipe = Recipe(optimiser="sgd", lr=0.2, batch_size=4, epochs=1)
    assignment = assign(net, line, recipe)
    assert assignment.backend == "loop"
    assert "other examples than images to be classified" in assignment.reason
    with pytest.raises(ModelError, match="cannot train this: the data holds other examples than images"):
        assign(net, line, recipe, "lanes")
    examples: Examples = line.train
    with pytest.raises(DataError, match="images to be classified are needed here, but got Numbers"):
        images_of(examples)


def test_the_train_loss_is_the_weighed_cross_entropy_of_what_is_foretold(line: Dataset) -> None:
    images = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))[:, :, None, None]
    split = Split(images_NCHW=images, labels_N=torch.tensor([0, 1, 2, 1, 0]))
    found = split.foretell(Fixed())
    each = F.cross_entropy(found.logits_AK, found.targets_A, reduction="none")
    assert (each * found.weight_A).sum().item() == pytest.approx(split.train_loss(Fixed()).item(), rel=1e-6)
    assert found.weight_A.sum().item() == pytest.approx(1)
    assert isinstance(split, Classified)
    assert not isinstance(line.train, Classified)
