"""The plain loop: one network, examples on the device, torch's own layers and optimisers. What every fleet is held to.

Letters: B batch.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from trueoracle.data import Dataset, torch_seeded
from trueoracle.fleet.evaluated import Evaluated, evaluated
from trueoracle.fleet.fleet import Place, Stop, Stopped, Trained, train_in_lockstep
from trueoracle.fleet.lora import merge_adapters, put_adapters
from trueoracle.fleet.objective import TrainLoss, objective
from trueoracle.nets import channels_last, kept_weights
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import FinalProtocol


def train(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    order_seed: int,
    stop: Stop = lambda: False,
    on_epoch: Callable[[], None] = lambda: None,
    final: FinalProtocol = FinalProtocol.LAST,
    teacher: nn.Module | None = None,
) -> Trained:
    """Train a copy of `net`; the order of the examples depends on `order_seed` and the epoch alone.

    Augmentation, mixing and dropout depend on these and the number of the batch: what else runs changes nothing.
    A network whose loss is no longer finite is `DIVERGED` and keeps the curve up to there. `stop` is asked
    before every step; where it says yes, `Stopped` is raised. `final` says which epoch's answers are handed back. `teacher`, in eval mode, is whom a recipe
    that distills learns from.
    """
    alone = LoopFleet(net, data, recipe, order_seed, teacher)
    return train_in_lockstep(alone, data, [recipe], order_seed, stop, lambda _networks: on_epoch(), final)[0]


class LoopFleet:
    """One network: a `Fleet` of one. With `lora`, adapters are put beside its layers, drawn by `order_seed`."""

    def __init__(
        self, net: nn.Module, data: Dataset, recipe: Recipe, order_seed: int, teacher: nn.Module | None = None
    ) -> None:
        self._data, self._recipe = data, recipe
        self._net = channels_last(deepcopy(net))
        if recipe.lora is not None:
            put_adapters(self._net, recipe.lora, order_seed)
        self._optimiser, self._on_batch = _optimiser(self._net, recipe), objective(recipe, data, teacher)
        self._draws = (
            True  # whether the network draws random numbers, as dropout does: until a step has shown otherwise
        )

    def set_rates(self, lr_N: Sequence[float]) -> None:
        """As `Fleet.set_rates`."""
        (rate,) = lr_N
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._net.train()

    def step(self, batch_B: Tensor, place: Place, stop: Stop) -> None:
        """As `Fleet.step`."""
        if stop():
            raise Stopped
        chance = np.random.default_rng(place)
        batch = self._on_batch(batch_B, chance)
        bfloat16 = self._recipe.precision == "bfloat16"
        with torch.autocast(self._data.device.type, torch.bfloat16, enabled=bfloat16):
            loss = self._loss(batch, chance)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._mask_gradients()
        if self._recipe.gradient_clipping is not None:
            nn.utils.clip_grad_norm_(self._net.parameters(), self._recipe.gradient_clipping)
        self._optimiser.step()

    def _mask_gradients(self) -> None:
        """What a mask holds at zero gets no gradient: momentum and decay then leave it at zero, to the bit."""
        for name, kept in kept_weights(self._net).items():
            gradient = self._net.get_parameter(name).grad
            if gradient is not None:
                gradient.masked_fill_(~kept, 0.0)

    def evaluate(self, stop: Stop) -> list[Evaluated]:  # noqa: ARG002 - one network is soon evaluated
        """As `Fleet.evaluate`."""
        return [evaluated(self._net, self._data)]

    def member(self, index: int) -> nn.Module:  # noqa: ARG002 - there is one
        """As `Fleet.member`; adapters are merged into its weights."""
        net = deepcopy(self._net)
        if self._recipe.lora is not None:
            merge_adapters(net)
        return net.eval()

    def freeze(self, index: int) -> None:
        """As `Fleet.freeze`; there is no other."""

    def state(self) -> dict[str, Tensor]:
        """As `Fleet.state`."""
        weights = {f"net.{name}": value for name, value in self._net.state_dict().items()}
        moments = {
            f"optimiser.{number}.{key}": value
            for number, of_weight in self._optimiser.state_dict()["state"].items()
            for key, value in of_weight.items()
            if value is not None
        }
        return weights | moments

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Fleet.restore`."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimiser."):
                _, number, key = name.split(".")
                moments.setdefault(int(number), {})[key] = value
        self._net.load_state_dict(
            {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
        )
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})

    def _loss(self, batch: TrainLoss, chance: np.random.Generator) -> Tensor:
        """By random numbers of this step alone, for as long as the network draws any."""
        if not self._draws:
            return batch.train_loss(self._net)
        with torch_seeded(int(chance.integers(2**63))) as drawn:
            loss = batch.train_loss(self._net)
            self._draws = drawn()
        return loss


def _optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        net.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
