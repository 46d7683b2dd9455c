"""Learning from the dense network: by hand, in the plain loop; what fleets make of it is held to the loop in their own tests."""

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle import api
from trueoracle.data import Dataset, Normalisation, Split, images_of
from trueoracle.fleet import assign, objective, train, train_fleet
from trueoracle.fleet.distillation import divergence
from trueoracle.nets import weights_from_bytes
from trueoracle.study import changed, load_spec, plan
from trueoracle.study.retrain import retrained
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

TAUGHT = {"weight": 0.25, "temperature": 2.0}


def recipe(**more: Any) -> Recipe:
    return Recipe.model_validate(
        {"optimiser": "sgd", "lr": 1.0, "batch_size": 6, "epochs": 1, "distill": TAUGHT} | more
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Noise of three classes, in float64."""
    random = torch.Generator().manual_seed(0)
    shape = InputShape(channels=1, height=4, width=4, classes=3)
    split = Split(images_NCHW=torch.randn(6, 1, 4, 4, generator=random).double(), labels_N=torch.arange(6) % 3)
    normal = Normalisation(mean=(0.5,), deviation=(0.25,))
    return Dataset(name="noise", shape=shape, train=split, test=split, fingerprint="", normalisation=normal)


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()


def test_the_divergence_by_hand() -> None:
    """Softened by 2, the teacher gives 3/4 and 1/4, the network one half each."""
    found = divergence(torch.zeros(2), torch.tensor([2 * log(3), 0.0]), 2.0)
    assert float(found) == pytest.approx(4 * (0.75 * log(1.5) + 0.25 * log(0.5)))


def test_a_step_by_hand(data: Dataset) -> None:
    """The gradient at a logit: (1 - w)(p - y) + w T (p softened - the teacher's softened), the mean over images."""
    net, teacher = linear(0), linear(1)
    images_NCHW = images_of(data.train).images_NCHW
    labels_N = torch.arange(6) % 3
    z_NK, t_NK = net(images_NCHW).detach(), teacher(images_NCHW).detach()
    hard_NK = F.softmax(z_NK, 1) - F.one_hot(labels_N, 3)
    soft_NK = F.softmax(z_NK / 2, 1) - F.softmax(t_NK / 2, 1)
    gradient = (0.75 * hard_NK + 0.25 * 2 * soft_NK).T @ images_NCHW.flatten(1) / 6
    trained = train(net, data, recipe(), order_seed=0, teacher=teacher).net
    torch.testing.assert_close(net.get_parameter("1.weight") - trained.get_parameter("1.weight"), gradient)


class Seen(nn.Module):
    """Keeps the images that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        self.last = images
        return images.flatten(1)[:, :3]


def test_the_teacher_answers_the_images_as_they_are_after_all_changes(data: Dataset) -> None:
    changing = recipe(augmentation={"flip": True}, mixup=0.5, label_smoothing=0.1)
    net, teacher = Seen(), Seen()
    batch = objective(changing, data, teacher)(torch.arange(6), np.random.default_rng([0, 0, 1]))
    loss = batch.train_loss(net)
    assert torch.equal(net.last, teacher.last)
    assert not torch.equal(net.last, images_of(data.train).images_NCHW)
    given = objective(changing.model_copy(update={"distill": None}), data)(
        torch.arange(6), np.random.default_rng([0, 0, 1])
    )
    assert float(loss) == pytest.approx(0.75 * float(given.train_loss(net)))  # they agree: no divergence


def test_what_fleets_cannot_teach_goes_to_the_loop_with_the_reason(data: Dataset) -> None:
    assignment = assign(linear(0).float(), data, recipe(augmentation={"flip": True}))
    assert assignment.backend == "loop"
    assert "the recipe asks for `augmentation`" in assignment.reason
    assert assign(linear(0).float(), data, recipe()).backend == "lanes"


def test_without_a_teacher_nothing_begins(data: Dataset) -> None:
    with pytest.raises(ValueError, match="the recipe has `distill`, so `teacher` must be the dense network"):
        train_fleet([linear(0)], data, recipe(), 0)


def test_a_study_learns_from_its_base_network_and_is_another_study(tmp_path: Path) -> None:
    plain = load_spec("quickstart", scale="tiny")
    facts = {"seeds_of": "here", "repeats": 1, "cells.0.draw": 3}
    taught = changed(plain.facts(), {**facts, "retrain.distill": {"weight": 0.9, "temperature": 4}}, "taught")
    plain = changed(plain.facts(), facts, "plain")
    assert taught.digest() != plain.digest()
    studies = [
        api.Study(spec, store=f"sqlite:///{tmp_path / 's.db'}", backend="loop", progress=Quiet())
        for spec in (plain, taught)
    ]
    for study in studies:
        study.run()
    tables = [study.trials() for study in studies]
    assert list(tables[0]["mask"]) == list(tables[1]["mask"])
    assert (tables[0]["final_train_loss"] - tables[1]["final_train_loss"]).abs().min() > 1e-3
    planned = plan(taught)
    base, cell = planned.nets[0], planned.cells[0]
    weights_from_bytes(base, studies[1].base_weights(), "of the study")
    mask = cell.space.unrank(int(tables[1]["mask"][0]))
    _, again = retrained(planned, base, cell, mask, 0, studies[1].data(), backend="loop")
    assert again.train_loss == tables[1]["final_train_loss"][0]
