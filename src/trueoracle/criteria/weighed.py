"""What criteria of single weights are given of a layer: its weights, and what is gathered of them on examples when first asked.

Letters: N examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from trueoracle.criteria.refusal import CannotJudge
from trueoracle.nets import copied, in_order
from trueoracle.words.examples import Examples
from trueoracle.words.mask import WeightGroup, WeightMask
from trueoracle.words.seeding import derive_seed

_BATCH = 32
"""Examples of a step of `movement`."""

Scores = dict[str, NDArray[np.float64]]
"""Group -> a number a weight, in the group's order."""


class Seen:
    """A network's layers on examples; every sum over the examples is computed once, when first asked for.

    `rate` is that at which pruned networks are retrained. The network stays as it is. Without examples only the weights are
    there to be seen.
    """

    def __init__(
        self, net: nn.Module, layers: Sequence[str], examples: Examples | None = None, rate: float = 0.0
    ) -> None:
        self._net, self._given, self._rate = copied(net), examples, rate
        self._layers = {name: self._net.get_submodule(name) for name in layers}
        for name in layers:
            self.weight(name).requires_grad_()

    def __getitem__(self, layer: str) -> "Layer":
        return Layer(seen=self, name=layer)

    def weight(self, layer: str) -> Tensor:
        """As it lies on the device."""
        weight = self._layers[layer].weight
        assert isinstance(weight, Tensor)
        return weight

    def layer(self, name: str) -> nn.Module:
        """The layer itself."""
        return self._layers[name]

    @property
    def _examples(self) -> Examples:
        if self._given is None or not len(self._given):
            raise ValueError("criteria that look at inputs or gradients need at least one example")
        return self._given

    @cached_property
    def gradients(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Layer -> mean over the examples of the gradient of each one's loss, and of its square."""
        mean = {name: torch.zeros_like(self.weight(name), dtype=torch.float64) for name in self._layers}
        square = {name: torch.zeros_like(total) for name, total in mean.items()}
        weights = [self.weight(name) for name in self._layers]
        for number in range(len(self._examples)):
            found = _gradients(self._net, weights, self._examples.take(slice(number, number + 1)))
            for name, gradient in zip(self._layers, found, strict=True):
                mean[name] += gradient.double() / len(self._examples)
                square[name] += gradient.double().square() / len(self._examples)
        return mean, square

    @cached_property
    def norms(self) -> dict[str, Tensor]:
        """Layer -> the root of the sum of squares of each of its inputs, over examples and positions."""
        squares: dict[str, Tensor] = {}

        def note(name: str, given: tuple[Tensor, ...]) -> None:
            x = given[0].detach().double()
            x = x.movedim(1, -1) if isinstance(self._layers[name], _ConvNd) else x
            squares[name] = squares.get(name, torch.zeros(())) + x.flatten(0, -2).square().sum(0)

        hooks = [
            layer.register_forward_pre_hook(lambda _layer, given, name=name: note(name, given))
            for name, layer in self._layers.items()
        ]
        try:
            with torch.no_grad():
                for start in range(0, len(self._examples), _BATCH):
                    self._examples.take(slice(start, start + _BATCH)).judge(self._net)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: total.sqrt() for name, total in squares.items()}

    @cached_property
    def movements(self) -> dict[str, Tensor]:
        """Layer -> minus the sum of rate x w dL/dw over the steps of one pass over the examples."""
        moving = copied(self._net)
        weights = {name: weight for name, weight in moving.named_parameters() if weight.requires_grad}
        total = {name: torch.zeros_like(self.weight(name), dtype=torch.float64) for name in self._layers}
        for start in range(0, len(self._examples), _BATCH):
            batch = self._examples.take(slice(start, start + _BATCH))
            found = dict(zip(weights, _gradients(moving, [*weights.values()], batch), strict=True))
            with torch.no_grad():
                for name in self._layers:
                    place = f"{name}.weight" if name else "weight"
                    total[name] -= self._rate * (found[place] * weights[place]).double()
                for name, weight in weights.items():
                    weight.sub_(self._rate * found[name])
        return total


def _gradients(net: nn.Module, weights: Sequence[Tensor], examples: Examples) -> list[Tensor]:
    """Of the mean loss; zeros for a weight that it does not depend on."""
    with torch.enable_grad():
        found = torch.autograd.grad(examples.train_loss(net), weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: everything has the shape of its weights, in float64."""

    seen: Seen
    name: str

    @property
    def weight(self) -> Tensor:
        """The weights."""
        return self.seen.weight(self.name).detach().double()

    @property
    def gradient(self) -> Tensor:
        """The derivative of the mean loss."""
        return self.seen.gradients[0][self.name]

    @property
    def square(self) -> Tensor:
        """The mean over examples of the squared derivative of each one's loss."""
        return self.seen.gradients[1][self.name]

    @property
    def movement(self) -> Tensor:
        """See `Seen.movements`."""
        return self.seen.movements[self.name]

    @property
    def inputs(self) -> int:
        """The axis of the inputs."""
        return 0 if isinstance(self.seen.layer(self.name), _ConvTransposeNd) else 1

    @property
    def outputs(self) -> int:
        """The axis of the outputs."""
        return 1 - self.inputs

    @property
    def input_norm(self) -> Tensor:
        """Of each weight the norm of the input that it weighs; `CannotJudge` where the layer was given nothing."""
        norm_C = self.seen.norms.get(self.name)
        if norm_C is None:
            raise CannotJudge(f"`{self.name}` was called in a way that does not tell what it is given")
        layer, weight = self.seen.layer(self.name), self.weight
        if self.inputs == 0:
            return norm_C.view(-1, *[1] * (weight.ndim - 1)).expand_as(weight)
        groups = layer.groups if isinstance(layer, _ConvNd) else 1
        norm_OI = norm_C.view(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
        return norm_OI.view(*norm_OI.shape, *[1] * (weight.ndim - 2)).expand_as(weight)


WeightCriterion = Callable[[Layer], Tensor]
"""The importance of each weight of a layer, in the shape of its weights, higher = keep; it may raise `CannotJudge`."""


def weigh(seen: Seen, groups: Sequence[WeightGroup], criterion: WeightCriterion) -> Scores:
    """What a criterion says of every weight of these groups."""
    return {
        group.site: np.concatenate(
            [in_order(seen.layer(layer), criterion(seen[layer])).cpu().numpy() for layer, _ in group.layers]
        )
        for group in groups
    }


def chance(groups: Sequence[WeightGroup]) -> Scores:
    """A fixed random number for each weight: what a criterion must beat."""
    seeds = {group.site: derive_seed("criterion random", group.site) for group in groups}
    return {group.site: np.random.PCG64(seeds[group.site]).random_raw(group.units) / 2.0**64 for group in groups}


def thrown_away(mask: WeightMask, importance: Mapping[str, NDArray[np.float64]]) -> float:
    """The importance that a mask throws away, summed over the weights that it holds at zero: lower is better."""
    return float(sum(importance[site][gone].sum() for site, gone in mask.gone_by_site.items()))
