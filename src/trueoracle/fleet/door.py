"""The one door to training: which backend takes which networks, and why.

`lanes` trains chains of layers on a CPU, sixteen at a time; `loop` trains everything, one after another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from trueoracle.data import Dataset, Split
from trueoracle.errors import ModelError
from trueoracle.fleet.chain import Chain, NotAChain, Size, find_chain
from trueoracle.fleet.lanes import LaneFleet, kernels, train_in_lanes
from trueoracle.fleet.loop import Trained, figures_of, train
from trueoracle.lanes import LANES
from trueoracle.progress import Progress, Quiet
from trueoracle.spec import Recipe
from trueoracle.trial import Figures

Backend = Literal["auto", "lanes", "loop"]
BACKENDS: tuple[Backend, ...] = ("auto", "lanes", "loop")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The backend that takes a network; `reason` is a sentence for the report."""

    backend: Literal["lanes", "loop"]
    reason: str
    chain: Chain | None = None


def choose(net: nn.Module, data: Dataset, backend: Backend | Choice = "auto") -> Choice:
    """Which backend trains networks of this shape on this data; `ModelError` where `lanes` is asked for and cannot.

    Tracing changes torch for the whole process while it lasts, so threads are given a choice that was made before
    they began; such a choice comes back as it is.
    """
    if isinstance(backend, Choice):
        return backend
    if backend == "loop":
        return Choice(backend="loop", reason="The plain loop was asked for: one network at a time.")
    try:
        chain = _chain(net, data)
    except NotAChain as reason:
        if backend == "lanes":
            raise ModelError(f"the backend `lanes` cannot train this network: it {reason}") from None
        return Choice(backend="loop", reason=f"One network at a time in the plain loop, for the network {reason}.")
    asked = "were asked for" if backend == "lanes" else "take it, for the network is a chain of layers on a CPU"
    return Choice(backend="lanes", reason=f"Lanes {asked}: {LANES} networks at a time.", chain=chain)


def train_fleet(
    nets: Sequence[nn.Module],
    data: Dataset,
    recipe: Recipe | Sequence[Recipe],
    order_seed: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[int], None] = lambda _networks: None,
    backend: Backend | Choice = "auto",
    progress: Progress | None = None,
) -> list[Trained]:
    """Train copies of networks of one shape on the same batches, and return them in their order.

    Numbers of one network do not depend on the others. `recipe` is for all, or one for each; those may differ in
    `lr` and `weight_decay` alone. `on_epoch` gets the number of networks that finished an epoch. `stop` is asked
    about twice a second or more often; where it says yes, `Stopped` is raised.
    """
    recipes = [recipe] * len(nets) if isinstance(recipe, Recipe) else list(recipe)
    _check(nets, recipes)
    choice = choose(nets[0], data, backend)
    if choice.chain is None:
        pairs = zip(nets, recipes, strict=True)
        return [train(net, data, own, order_seed, stop, lambda: on_epoch(1)) for net, own in pairs]
    code = kernels(choice.chain, nets[0], lone=False, progress=progress or Quiet())
    done: list[Trained] = []
    for first in range(0, len(nets), LANES):
        group = slice(first, first + LANES)
        done += train_in_lanes(code, nets[group], data, recipes[group], order_seed, stop, on_epoch)
    return done


def train_alone(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    order_seed: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[int], None] = lambda _networks: None,
    backend: Backend = "auto",
    progress: Progress | None = None,
) -> Trained:
    """Train a copy of one network, with samples in the lanes.

    Sixteen times faster than a fleet of one, whose sums it rounds in another order: a network is trained either
    always in fleets or always alone.
    """
    choice = choose(net, data, backend)
    if choice.chain is None:
        return train(net, data, recipe, order_seed, stop, lambda: on_epoch(1))
    code = kernels(choice.chain, net, lone=True, progress=progress or Quiet())
    return train_in_lanes(code, [net], data, [recipe], order_seed, stop, on_epoch)[0]


def figures_alone(
    net: nn.Module, data: Dataset, *, backend: Backend = "auto", progress: Progress | None = None
) -> Figures:
    """Losses and accuracies of one network on both splits, by the same kernels that train it alone."""
    choice = choose(net, data, backend)
    if choice.chain is None:
        return figures_of(net, data)
    code = kernels(choice.chain, net, lone=True, progress=progress or Quiet())
    return LaneFleet(code, [net], data).figures(lambda: False)[0]


def _chain(net: nn.Module, data: Dataset) -> Chain:
    if data.device.type != "cpu":
        raise NotAChain(f"is trained on the device {data.device.type}")
    if not isinstance(data.train, Split):
        raise NotAChain("is trained on other examples than images to be classified")
    channels, height, width = data.train.images_NCHW.shape[1:]
    size: Size = (channels, height, width)
    return find_chain(net, size)


def _check(nets: Sequence[nn.Module], recipes: Sequence[Recipe]) -> None:
    if not nets:
        raise ValueError("`nets` must hold at least one network")
    if len(recipes) != len(nets):
        raise ValueError(
            f"`recipe` must be one for all or one for each, but got {len(recipes)} for {len(nets)} networks"
        )
    shared = [own.model_dump(exclude={"lr", "weight_decay"}) for own in recipes]
    if any(own != shared[0] for own in shared):
        raise ValueError("the recipes of a fleet may differ in `lr` and `weight_decay` alone")
    shapes = [[(name, p.shape) for name, p in net.named_parameters()] for net in nets]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"the networks of a fleet must be of one shape, but network {number} differs from the first"
            )
