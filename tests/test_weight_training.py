"""Retraining under masks of weights: against dense weights times the mask in float64, and zeros that stay zero to the bit."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from test_fleet import Wide, images
from test_stacked import Residual
from trueoracle.data import Dataset, Split
from trueoracle.fleet import Backend, Trained, train_alone, train_fleet
from trueoracle.fleet.loop import LoopFleet
from trueoracle.fleet.schedule import batches, learning_rate, orders
from trueoracle.fleet.stacked import StackedFleet
from trueoracle.nets import kept_weights, mask_weights, unmasked, weight_shapes
from trueoracle.oracle import Loop
from trueoracle.space import WeightSpace, at_ratio
from trueoracle.words.mask import WeightMask
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import Outcome

SGD = Recipe(
    optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=32, epochs=3, schedule="step", milestones=(2,)
)
NESTEROV = SGD.model_copy(update={"nesterov": True, "gradient_clipping": 0.5})
ADAMW = Recipe(optimiser="adamw", lr=0.01, weight_decay=0.1, batch_size=32, epochs=3, schedule="cosine")


class Sequences(nn.Module):
    """No convolution of images: grouped and transposed ones of rows of pixels, attention's matrices, a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv1d(3, 6, 4, groups=3, stride=2)
        self.up = nn.ConvTranspose1d(6, 8, 3, groups=2)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.up(self.grouped(x.flatten(2))).mT)
        return self.head((x + self.attention(x, x, x)[0]).mean(1))


def doubled(data: Dataset) -> Dataset:
    def split(part: Split) -> Split:
        return Split(images_NCHW=part.images_NCHW.double(), labels_N=part.labels_N)

    return Dataset(name=data.name, shape=data.shape, train=split(data.train), test=split(data.test), fingerprint="")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small() -> Dataset:
    return images(3, 10, 7)


def masks_of(net: nn.Module, number: int, ratio: float = 0.6) -> list[WeightMask]:
    space = WeightSpace((at_ratio("*", weight_shapes(net), ratio),))
    return [space.unrank(name) for name in space.draw(number, 1)]


def dense_times_mask(net: nn.Module, mask: WeightMask, data: Dataset, recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """The weights in effect after training dense weights that the network only ever sees times the mask: the slow twin."""
    kept = {name: of.double() for name, of in kept_weights(mask_weights(net, mask)).items()}
    free = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    optimiser: torch.optim.Optimizer = (
        torch.optim.AdamW(free.values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        if recipe.optimiser == "adamw"
        else torch.optim.SGD(
            free.values(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )
    )
    train = data.train
    assert isinstance(train, Split)
    for epoch, order in orders(recipe, len(train), seed):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch)
        for batch in batches(order, recipe.batch_size, data.device):
            effect = {name: p * kept[name] if name in kept else p for name, p in free.items()}
            loss = F.cross_entropy(functional_call(net, effect, (train.images_NCHW[batch],)), train.labels_N[batch])
            optimiser.zero_grad()
            loss.backward()
            if recipe.gradient_clipping is not None:
                nn.utils.clip_grad_norm_(free.values(), recipe.gradient_clipping)
            optimiser.step()
    return {name: (p * kept[name] if name in kept else p).detach() for name, p in free.items()}


@pytest.mark.parametrize("recipe", [SGD, NESTEROV, ADAMW], ids=["sgd", "nesterov", "adamw"])
@pytest.mark.parametrize("make", [Wide, Sequences])
def test_the_loop_trains_what_dense_weights_times_the_mask_become(
    make: Callable[[], nn.Module], recipe: Recipe, small: Dataset
) -> None:
    torch.manual_seed(0)
    net, data = make().double(), doubled(small)
    (mask,) = masks_of(net, 1)
    (trained,) = train_fleet([mask_weights(net, mask)], data, recipe, 5, backend="loop")
    wanted = dense_times_mask(net, mask, data, recipe, 5)
    found = dict(trained.net.named_parameters())
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name].detach(), weight, rtol=1e-9, atol=1e-11)
    assert any((found[name] - p).abs().max() > 1e-3 for name, p in net.named_parameters())


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_stacked_fleets_train_what_dense_weights_times_the_masks_become(recipe: Recipe) -> None:
    data = doubled(images(1, 12, 7))
    nets: list[nn.Module] = [Residual(seed).double() for seed in range(3)]
    (mask,) = masks_of(nets[0], 1)
    masked = [mask_weights(net, one) for net, one in zip(nets, masks_of(nets[0], 3), strict=True)]
    for trained, net, one in zip(train_fleet(masked, data, recipe, 5, backend="stacked"), nets, masked, strict=True):
        alone = train_fleet([one], data, recipe, 5, backend="loop")[0]
        for name, weight in alone.net.named_parameters():
            torch.testing.assert_close(trained.net.get_parameter(name), weight, rtol=1e-7, atol=1e-9)
        assert kept_weights(trained.net).keys() == kept_weights(one).keys()
        assert trained.curve[-1].train_loss == pytest.approx(alone.curve[-1].train_loss, rel=1e-7)
        assert net is not one
    assert mask.groups[0].units == sum(
        p.numel() for name, p in nets[0].named_parameters() if name.endswith("weight") and "bn" not in name
    )


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_lanes_train_what_the_loop_trains(recipe: Recipe, small: Dataset) -> None:
    torch.manual_seed(0)
    net = Wide()
    masked = [mask_weights(net, mask) for mask in masks_of(net, 3)]
    together = train_fleet(masked, small, recipe, 5, backend="lanes")
    lone = train_alone(masked[1], small, recipe, 5, backend="lanes")
    for trained, one in zip([*together, lone], [*masked, masked[1]], strict=True):
        alone = train_fleet([one], small, recipe, 5, backend="loop")[0]
        for name, weight in alone.net.named_parameters():
            torch.testing.assert_close(trained.net.get_parameter(name), weight, rtol=1e-3, atol=1e-4)
        assert_held_at_zero(trained.net, one)


def assert_held_at_zero(net: nn.Module, masked: nn.Module) -> None:
    """Every bit of every number that the mask holds is 0, and hardly any other number is."""
    for name, kept in kept_weights(masked).items():
        weight = net.get_parameter(name).detach()
        assert (weight[~kept].contiguous().view(torch.uint8) == 0).all(), name
        assert (weight[kept] != 0).float().mean() > 0.9, name
        assert not torch.equal(weight, masked.get_parameter(name)), name


WAYS: list[tuple[Backend, Recipe]] = [
    ("loop", SGD), ("loop", NESTEROV), ("loop", ADAMW), ("lanes", SGD), ("lanes", ADAMW), ("stacked", SGD), ("stacked", ADAMW),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "recipe"), WAYS)
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_zeros_stay_zero_to_the_bit(backend: Backend, recipe: Recipe, ratio: float, small: Dataset) -> None:
    torch.manual_seed(0)
    net = Wide()
    masked = [mask_weights(net, mask) for mask in masks_of(net, 2, ratio)]
    trained: list[Trained] = train_fleet(masked, small, recipe, 5, backend=backend)
    for one, before in zip(trained, masked, strict=True):
        assert_held_at_zero(one.net, before)


def test_what_optimisers_remember_of_them_stays_zero_too(small: Dataset) -> None:
    net = Wide()
    masked = mask_weights(net, masks_of(net, 1)[0])
    kept = kept_weights(masked)
    names = [name for name, _ in masked.named_parameters()]
    for recipe in (SGD, ADAMW):
        loop, stacked = LoopFleet(masked, small, recipe, 0), StackedFleet([masked, masked], small, [recipe, recipe])
        for fleet in (loop, stacked):
            fleet.set_rates([recipe.lr] * (1 if fleet is loop else 2))
            for number in range(1, 4):
                fleet.step(torch.arange(40), (0, 0, number), lambda: False)
        remembered = {
            (names[int(number)], key): value
            for name, value in loop.state().items()
            if name.startswith("optimiser.") and value.ndim
            for _, number, key in [name.split(".")]
        }
        assert {name for name, _ in remembered} == {*names}
        for (name, _), value in remembered.items():
            if name in kept:
                assert (value[~kept[name]] == 0).all()
                assert (value[kept[name]] != 0).any()
        shapes = {tuple(kept[name].shape): kept[name] for name in kept}
        states = [value[1] for value in stacked.state().values() if value.ndim and value.dtype == torch.float32]
        of_weights = [(value, shapes[tuple(value.shape)]) for value in states if tuple(value.shape) in shapes]
        assert len(of_weights) >= 2 * len(shapes)
        assert all((value[~of] == 0).all() and (value[of] != 0).any() for value, of in of_weights)


@pytest.mark.parametrize("backend", ["loop", "lanes"])
def test_numbers_that_are_none_reach_no_zero(backend: Backend, small: Dataset) -> None:
    masked = mask_weights(Wide(), masks_of(Wide(), 1)[0])
    (trained,) = train_fleet([masked], small, SGD.model_copy(update={"lr": 1e30}), 5, backend=backend)
    assert trained.outcome is Outcome.DIVERGED
    for name, kept in kept_weights(masked).items():
        assert (trained.net.get_parameter(name)[~kept] == 0).all()


def test_masked_and_dense_networks_make_no_fleet(small: Dataset) -> None:
    net = Wide()
    with pytest.raises(ValueError, match="masks must hold weights of the same layers"):
        train_fleet([mask_weights(net, masks_of(net, 1)[0]), net], small, SGD, 0)


def test_the_oracle_judges_dense_weights_times_the_mask(small: Dataset) -> None:
    torch.manual_seed(0)
    net, data = Wide().double(), doubled(small)
    space = WeightSpace((at_ratio("*", weight_shapes(net), 0.6),))
    names = space.draw(5, 2)
    found = Loop(net=net, space=space, shape=data.shape).sums(names, data.train)
    assert isinstance(data.train, Split)
    for place, name in enumerate(names):
        kept = kept_weights(mask_weights(net, space.unrank(name)))
        effect = {n: p * kept[n].double() if n in kept else p for n, p in net.named_parameters()}
        logits = functional_call(net, effect, (data.train.images_NCHW,)).detach()
        assert found.loss_M[place] == pytest.approx(
            float(F.cross_entropy(logits, data.train.labels_N, reduction="sum")), rel=1e-9
        )
    assert unmasked(net).state_dict().keys() == net.state_dict().keys()
