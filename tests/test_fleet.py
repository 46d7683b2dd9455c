"""Every way to train against the plain loop and a float64 reference, for every kind of layer."""

import threading
from collections.abc import Callable
from copy import deepcopy
from math import exp, inf, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data import Dataset, Split
from trueoracle.fleet import Backend, Stopped, Trained, assign, evaluated, train, train_alone, train_fleet
from trueoracle.fleet.chain import NotAChain, find_chain
from trueoracle.fleet.lanes import kernels
from trueoracle.nets import build
from trueoracle.words.errors import ModelError
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Distillation, Recipe
from trueoracle.words.trial import Outcome

Make = Callable[[], nn.Module]
Way = Callable[[list[nn.Module], Dataset, Recipe], list[Trained]]


def images(channels: int, size: int, classes: int, train: int = 90, test: int = 35) -> Dataset:
    """Noise, with background above and on the right, and labels that can be learnt."""
    numbers = torch.Generator().manual_seed(7)

    def split(count: int) -> Split:
        images = torch.randn(count, channels, size, size, generator=numbers)
        labels = torch.randint(0, classes, (count,), generator=numbers)
        images += labels[:, None, None, None] * 0.3
        images[..., : size // 3, :] = images[..., -size // 4 :] = -0.4
        return Split(images_NCHW=images, labels_N=labels)

    shape = InputShape(channels=channels, height=size, width=size, classes=classes)
    return Dataset(name="noise", shape=shape, train=split(train), test=split(test), fingerprint="")


class Wide(nn.Module):
    """Odd kernels, strides and paddings, overlapping and mean pooling, no bias, RGB."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, (3, 5), stride=(2, 1), padding=(1, 2))
        self.second = nn.Conv2d(5, 6, 3, padding=1, bias=False)
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 7, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.first(x), 3, 2, 1))
        return self.last(F.avg_pool2d(self.second(x).relu(), 2, 2, 1, count_include_pad=False))


def pooled_first() -> nn.Module:
    return nn.Sequential(
        nn.AvgPool2d(3, 2, padding=1), nn.Conv2d(2, 4, 3, stride=2, padding=2), nn.Conv2d(4, 3, 2, stride=2),
        nn.ReLU(), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


def dense_only() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 5))


def windows_of_all_shapes() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.MaxPool2d((1, 2)), nn.Conv2d(3, 5, 3, padding=(2, 0)), nn.ReLU(),
        nn.MaxPool2d((3, 1)), nn.Flatten(), nn.Linear(15, 4),
    )  # fmt: skip


def pruned_lenet() -> nn.Module:
    """Padded, two colours, two by two windows: what the family of LeNet has, and seven filters."""
    return nn.Sequential(
        nn.Conv2d(2, 7, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(7, 9, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(36, 6),
    )  # fmt: skip


CHAINS: dict[str, tuple[Make, Dataset]] = {
    "wide": (Wide, images(3, 10, 7)),
    "pooled first": (pooled_first, images(2, 11, 3)),
    "dense only": (dense_only, images(1, 8, 5)),
    "windows of all shapes": (windows_of_all_shapes, images(2, 16, 4)),
    "pruned lenet": (pruned_lenet, images(2, 12, 6)),
}
SGD = Recipe(optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=9, epochs=2)
ADAMW = Recipe(optimiser="adamw", lr=0.003, weight_decay=0.1, batch_size=9, epochs=2)
TAUGHT = SGD.model_copy(update={"distill": Distillation(weight=0.7, temperature=2.5)})


def nets(make: Make, count: int) -> list[nn.Module]:
    torch.manual_seed(3)
    return [make() for _ in range(count)]


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def gradients(net: nn.Module, split: Split) -> Tensor:
    """Of the mean loss over the split, in float64."""
    double = deepcopy(net).double()
    F.cross_entropy(double(split.images_NCHW.double()), split.labels_N).backward()
    return torch.cat([p.grad.flatten() for p in double.parameters()])


def together(backend: Backend) -> Way:
    return lambda members, data, recipe: train_fleet(members, data, recipe, 4, backend=backend, teacher=members[-1])


def alone(members: list[nn.Module], data: Dataset, recipe: Recipe) -> list[Trained]:
    return [train_alone(net, data, recipe, 4, backend="lanes", teacher=members[-1]) for net in members]


WAYS: dict[str, Way] = {
    "loop": together("loop"), "lanes": together("lanes"), "samples in lanes": alone, "stacked": together("stacked"),
}  # fmt: skip
FLEETS: list[Backend] = ["lanes", "stacked"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chain", CHAINS)
def test_gradients_and_figures_are_those_of_float64(chain: str, way: str) -> None:
    make, data = CHAINS[chain]
    members = nets(make, 2)
    whole = len(data.train)
    plain_step = Recipe(optimiser="sgd", lr=1.0, batch_size=whole, epochs=1)
    for net, trained in zip(members, WAYS[way](members, data, plain_step), strict=True):
        right = gradients(net, data.train)
        ours = weights(net) - weights(trained.net)
        assert (ours - right).abs().max() <= 1e-5 * right.abs().max()
        exact = evaluated(deepcopy(trained.net).double(), doubled(data)).figures
        (found,) = trained.curve
        assert found.train_loss == pytest.approx(exact.train_loss, rel=1e-5)
        assert found.test_loss == pytest.approx(exact.test_loss, rel=1e-5)
        assert (found.train_accuracy, found.test_accuracy) == (exact.train_accuracy, exact.test_accuracy)


def doubled(data: Dataset) -> Dataset:
    train_split, test_split = (
        Split(images_NCHW=split.images_NCHW.double(), labels_N=split.labels_N) for split in (data.train, data.test)
    )
    return Dataset(**{**vars(data), "train": train_split, "test": test_split})


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("way", ["lanes", "samples in lanes", "stacked"])
@pytest.mark.parametrize("chain", CHAINS)
def test_twenty_steps_and_their_curve_are_those_of_the_loop(chain: str, way: str, recipe: Recipe) -> None:
    make, data = CHAINS[chain]
    members = nets(make, 2)
    for net, ours in zip(members, WAYS[way](members, data, recipe), strict=True):
        loops = train(net, data, recipe, order_seed=4)
        torch.testing.assert_close(weights(ours.net), weights(loops.net), rtol=0, atol=2e-5)
        assert not torch.allclose(weights(ours.net), weights(net), rtol=0, atol=1e-2)
        for one, other in zip(ours.curve, loops.curve, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, abs=2e-5)
            assert one.test_accuracy == pytest.approx(other.test_accuracy, abs=1.01 / 35)
        assert evaluated(ours.net, data).figures.test_loss == pytest.approx(ours.curve[-1].test_loss, abs=1e-6)
        assert not ours.net.training


@pytest.mark.parametrize("way", ["lanes", "samples in lanes", "stacked"])
def test_a_teacher_teaches_as_in_the_loop(way: str) -> None:
    """And something else than the classes alone: the last network is the teacher."""
    make, data = CHAINS["pruned lenet"]
    members = nets(make, 2)
    plain = train(members[0], data, SGD, order_seed=4)
    for net, ours in zip(members, WAYS[way](members, data, TAUGHT), strict=True):
        loops = train(net, data, TAUGHT, order_seed=4, teacher=members[-1])
        torch.testing.assert_close(weights(ours.net), weights(loops.net), rtol=0, atol=2e-5)
        assert not torch.allclose(weights(ours.net), weights(plain.net), rtol=0, atol=1e-2)


def test_losses_are_those_of_scalars_to_the_bit_on_every_processor() -> None:
    net = dense_only()
    code = kernels(find_chain(net, (1, 8, 8)), net, lone=False, progress=Quiet())
    chance = np.random.default_rng(0)
    logits_NKL, labels_N = chance.normal(0, 5, (200, 5, 16)).astype(np.float32), chance.integers(5, size=200)
    found_NL = np.empty((200, 16))
    code.module.losses(logits_NKL, labels_N, found_NL)
    for logits_KL, label, found_L in zip(logits_NKL.astype(np.float64), labels_N, found_NL, strict=True):
        for logits_K, found in zip((logits_KL - logits_KL.max(0)).T.tolist(), found_L, strict=True):
            whole = 0.0
            for logit in logits_K:
                whole += exp(logit)
            assert found == log(whole) - logits_K[label]


def test_a_networks_numbers_depend_on_neither_mates_nor_lane_nor_size_nor_threads() -> None:
    make, data = CHAINS["pruned lenet"]
    members = nets(make, 17)
    whole = train_fleet(members, data, SGD, order_seed=4, backend="lanes")
    assert len({tuple(weights(one.net).tolist()) for one in whole}) == 17
    for chosen in ([5], [16], [9, 5, 2], list(range(16))[::-1]):
        part = train_fleet([members[i] for i in chosen], data, SGD, order_seed=4, backend="lanes")
        for i, one in zip(chosen, part, strict=True):
            assert torch.equal(weights(one.net), weights(whole[i].net))
            assert one.curve == whole[i].curve
    found: dict[int, Tensor] = {}

    def work(i: int) -> None:
        found[i] = weights(train_fleet([members[i]], data, SGD, order_seed=4, backend="lanes")[0].net)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], weights(whole[i].net)) for i in range(3))


@pytest.mark.parametrize("backend", FLEETS)
@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_diverging_member_is_frozen_with_its_curve_and_harms_no_other(backend: Backend, recipe: Recipe) -> None:
    make, data = CHAINS["pruned lenet"]
    members = nets(make, 3)
    recipes = [recipe.model_copy(update={"lr": lr}) for lr in (0.05, 1e30, 0.01)]
    counted: list[int] = []
    found = train_fleet(members, data, recipes, order_seed=4, backend=backend, on_epoch=counted.append)
    assert [one.outcome for one in found] == [Outcome.FINISHED, Outcome.DIVERGED, Outcome.FINISHED]
    assert (len(found[1].curve), counted) == (0, [2, 2])
    for i in (0, 2):
        calm = train_fleet([members[i]], data, recipes[i], order_seed=4, backend=backend)[0]
        torch.testing.assert_close(
            weights(calm.net), weights(found[i].net), rtol=0, atol=0 if backend == "lanes" else 1e-5
        )


@pytest.mark.parametrize("backend", FLEETS)
@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_each_member_has_its_own_rate_and_decay(backend: Backend, recipe: Recipe) -> None:
    make, data = CHAINS["dense only"]
    members = nets(make, 2)
    recipes = [recipe, recipe.model_copy(update={"lr": recipe.lr / 5, "weight_decay": 0.3})]
    found = train_fleet(members, data, recipes, order_seed=4, backend=backend)
    for net, recipe, ours in zip(members, recipes, found, strict=True):
        loops = train(net, data, recipe, order_seed=4)
        torch.testing.assert_close(weights(ours.net), weights(loops.net), rtol=0, atol=2e-5)


@pytest.mark.parametrize("way", ["lanes", "samples in lanes", "stacked"])
def test_the_kept_epoch_can_be_the_best_on_test(way: str) -> None:
    make, data = CHAINS["dense only"]
    recipe = SGD.model_copy(update={"epochs": 12, "lr": 0.3, "keep": "best_on_test"})
    for trained in WAYS[way](nets(make, 2), data, recipe):
        best = max(trained.curve, key=lambda f: f.test_accuracy)
        assert best != trained.curve[-1]
        assert evaluated(trained.net, data).figures.test_loss == pytest.approx(best.test_loss, rel=1e-6)


@pytest.mark.parametrize("backend", FLEETS)
def test_a_stop_is_obeyed(backend: Backend) -> None:
    make, data = CHAINS["dense only"]
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        train_fleet(nets(make, 2), data, SGD, 0, backend=backend, stop=lambda: next(asked))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return x + self.layer(x)


def frozen() -> nn.Module:
    net = dense_only()
    net[1].weight.requires_grad_(False)
    return net


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Residual, "has more than one path"),
        (frozen, "has frozen weights (`1.weight`)"),
        (lambda: dense_only().double(), "has weights that are no float32"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Sigmoid()), "another kind (`Sigmoid`)"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), "another kind (`BatchNorm2d`)"),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 8)), "one number a class"),
        (lambda: nn.Sequential(nn.Linear(8, 8)), "what is not flat"),
    ],
)
def test_what_is_no_chain_gets_the_loop_with_the_reason(make: Make, why: str) -> None:
    data = CHAINS["dense only"][1]
    assignment = assign(make(), data, SGD)
    assert (assignment.backend, assignment.networks) == ("loop", 1)
    assert why in assignment.reason
    with pytest.raises(ModelError, match="the backend `lanes` cannot train this: the network"):
        assign(make(), data, SGD, "lanes")
    with pytest.raises(NotAChain):
        find_chain(make(), (1, 8, 8))


class RecipeToCome(Recipe):
    """A recipe with a key that fleets were never told of."""

    sharpness: float = 0.0


@pytest.mark.parametrize("backend", FLEETS)
def test_a_recipe_that_a_fleet_does_not_know_gets_the_loop_with_the_reason(backend: Backend) -> None:
    make, data = CHAINS["dense only"]
    neutral = RecipeToCome(**SGD.model_dump())
    assert assign(make(), data, neutral, backend).backend == backend
    mixed = RecipeToCome(**SGD.model_dump(), sharpness=0.2)
    assignment = assign(make(), data, mixed)
    assert assignment.backend == "loop"
    assert (
        assignment.reason
        == "One network at a time in the plain loop, for the recipe asks for `sharpness`, which lanes do not know."
    )
    with pytest.raises(ModelError, match=f"the backend `{backend}` cannot train this: the recipe asks for `sharpness`"):
        assign(make(), data, mixed, backend)


def test_the_rule_of_choice_on_a_cpu() -> None:
    make, data = CHAINS["dense only"]
    lanes = assign(make(), data, SGD)
    assert (lanes.backend, lanes.networks) == ("lanes", 16)
    assert lanes.reason == "In lanes, 16 networks at a time: the network is a chain of layers on a CPU."
    assert assign(make(), data, SGD, lanes) is lanes
    stacked = assign(make(), data, SGD, "stacked")
    assert (stacked.backend, stacked.networks) == ("stacked", 16)
    assert assign(make(), data, SGD, "loop").reason == "The plain loop was asked for: one network at a time."


def test_precisions_go_where_they_can_be_had() -> None:
    make, data = CHAINS["dense only"]
    tf32, bfloat16 = (SGD.model_copy(update={"precision": precision}) for precision in ("tf32", "bfloat16"))
    assert assign(make(), data, bfloat16).backend == "loop"
    assert assign(make(), data, bfloat16, "stacked").backend == "stacked"
    for backend in ("auto", "lanes", "stacked", "loop"):
        with pytest.raises(ModelError, match="`precision: tf32`"):
            assign(make(), data, tf32, backend)


@pytest.mark.parametrize("way", ["loop", "stacked"])
def test_bfloat16_rounds_products_and_little_else(way: str) -> None:
    make, data = CHAINS["dense only"]
    members = nets(make, 2)
    full = WAYS[way](members, data, SGD)
    rounded = WAYS[way](members, data, SGD.model_copy(update={"precision": "bfloat16"}))
    for one, other in zip(full, rounded, strict=True):
        difference = (weights(one.net) - weights(other.net)).abs().max()
        assert 1e-5 < difference < 0.05
        assert all(p.dtype == torch.float32 for p in other.net.parameters())


def test_the_loop_stands_in_for_lanes_number_for_number() -> None:
    make, data = CHAINS["dense only"]
    members = nets(make, 2)
    found = train_fleet(members, data, SGD, 4, backend="loop")
    assert torch.equal(weights(found[1].net), weights(train(members[1], data, SGD, 4).net))
    assert torch.equal(weights(train_alone(members[1], data, SGD, 4, backend="loop").net), weights(found[1].net))


def test_fleets_that_are_none_are_refused() -> None:
    data = CHAINS["dense only"][1]
    with pytest.raises(ValueError, match="at least one network"):
        train_fleet([], data, SGD, 0)
    with pytest.raises(ValueError, match="network 1 differs from the first"):
        train_fleet([dense_only(), nn.Linear(3, 3)], data, SGD, 0)
    with pytest.raises(ValueError, match="`lr` and `weight_decay` alone"):
        train_fleet([dense_only(), dense_only()], data, [SGD, ADAMW], 0)
    with pytest.raises(ValueError, match="1 for 2 networks"):
        train_fleet([dense_only(), dense_only()], data, [SGD], 0)


def test_lenet_on_lanes_learns_what_it_learns_in_the_loop() -> None:
    shape = InputShape(channels=1, height=32, width=32, classes=10)
    data = images(1, 32, 10, train=200)
    recipe = Recipe(optimiser="sgd", lr=0.01, momentum=0.9, batch_size=64, epochs=1)
    net = build("lenet5-mini", shape, seed=3)
    assert assign(net, data, recipe).backend == "lanes"
    ours, loops = train_fleet([net], data, recipe, 0)[0], train(net, data, recipe, 0)
    assert ours.curve[0].train_loss == pytest.approx(loops.curve[0].train_loss, abs=1e-5)
    assert ours.curve[0].train_loss < inf
