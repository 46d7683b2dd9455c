# ruff: noqa: ARG005 - what is made of an output looks at a part of it
"""What networks return: logits are read where there is no doubt which they are, and refused in one line elsewhere."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trueoracle
from trueoracle.data import Dataset, load_dataset
from trueoracle.fleet import train_fleet
from trueoracle.nets import evaluate, find_sites, remove
from trueoracle.nets.outputs import give_logits
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

GREY = InputShape(channels=1, height=32, width=32, classes=10)
Pair = namedtuple("Pair", ["features", "scores"])


@dataclass
class Output:
    logits: Tensor
    extra: Tensor


class Small(nn.Module):
    """`how` says what is made of logits (B, 10), features (B, 6) and whether it trains."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.head, self.how = nn.Conv2d(1, 6, 5, stride=3), nn.Linear(6, 10), how

    def forward(self, x: Tensor) -> Any:
        features = self.first(x).relu().mean((2, 3))
        return self.how(self.head(features), features, self.training)


READ = {
    "a tensor": lambda logits, features, trains: logits,
    "a dict with logits": lambda logits, features, trains: {"logits": logits, "aux": logits + 1},
    "a dict with one that fits": lambda logits, features, trains: {"features": features, "out": logits, "n": 3},
    "an object with logits": lambda logits, features, trains: Output(logits=logits, extra=logits * 2),
    "a tuple with one that fits": lambda logits, features, trains: (features, logits),
    "a list of one": lambda logits, features, trains: [logits],
    "a named tuple": lambda logits, features, trains: Pair(features, logits),
    "more in training": lambda logits, features, trains: (logits, features) if trains else logits,
}


@pytest.mark.parametrize("how", READ.values(), ids=READ.keys())
def test_logits_are_found(how: Any) -> None:
    plain, net = Small(READ["a tensor"]).eval(), Small(how).eval()
    give_logits(net, GREY, "net")
    images = torch.randn(3, 1, 32, 32)
    assert torch.equal(net(images), plain(images))
    assert torch.equal(net.train()(images), plain.train()(images))
    assert list(net.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("how", READ.values(), ids=READ.keys())
def test_everything_that_a_network_goes_through_takes_it(how: Any) -> None:
    plain, net = Small(READ["a tensor"]).eval(), Small(how).eval()
    prune = {"first": 0.5}
    losses = [trueoracle.pruned_losses(one, None, "digits", prune, progress=Quiet()) for one in (plain, net)]
    assert losses[0]["pruned_train_loss"].tolist() == pytest.approx(losses[1]["pruned_train_loss"].tolist(), rel=1e-6)
    assert len(trueoracle.sites(net, "digits", progress=Quiet())) == 1


def test_it_is_pruned_and_trained(digits: Dataset) -> None:
    net = Small(READ["a dict with logits"]).eval()
    give_logits(net, GREY, "net")
    mask = Mask(rank=0, sites=(SiteMask(site="first", units=6, kept=(0, 1, 2)),))
    pruned = remove(net, mask, find_sites(net, GREY))
    recipe = Recipe(optimiser="sgd", lr=0.1, batch_size=50, epochs=1)
    (trained,) = train_fleet([pruned], digits, recipe, 0)
    assert trained.curve[0].train_loss < evaluate(pruned, digits.train).loss


@pytest.fixture
def digits() -> Dataset:
    return load_dataset("digits", None, torch.device("cpu"), Quiet())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda logits, f, t: (logits, logits), r"returns 2 tensors that could be the logits \(0, 1\): return one"),
        (lambda logits, f, t: {"a": logits, "b": logits}, r"2 tensors that could be the logits \(a, b\)"),
        (lambda logits, f, t: (logits, logits) if t else logits, r"`net, in training,` returns 2 tensors"),
        (
            lambda logits, f, t: {"f": f},
            r"must map .* shape \(1, 10\), a logit a class, but gives a dict with f: \(1, 6\)",
        ),
        (lambda logits, f, t: f, r"but gives \(1, 6\)"),
        (lambda logits, f, t: "ten", "but gives a str"),
        (lambda logits, f, t: None, "but gives a NoneType"),
    ],
)
def test_what_is_in_doubt_is_refused_in_one_line(how: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as problem:
        give_logits(Small(how).eval(), GREY, "net")
    assert "\n" not in str(problem.value)


def test_a_classifier_of_transformers_is_taken_as_it_is() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=32, patch_size=16, num_channels=1, num_labels=10, hidden_size=16,
                       num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)  # fmt: skip
    found = trueoracle.sites(ViTForImageClassification(config).eval(), "digits", progress=Quiet())
    assert {2, 8} <= set(found["units"])  # heads and neurons
