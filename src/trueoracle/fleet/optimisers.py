"""Optimisers on arrays whose last axis are lanes, step by step as torch defines them.

Weights, gradients and state are flat; rates and decays are arrays of the same length, for each lane has its own.
"""

from typing import Final, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueoracle.words.spec import Recipe

Floats = NDArray[np.float32]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # torch.optim.AdamW's own


class Optimiser(Protocol):
    """Keeps the state of one training."""

    def step(self, weights: Floats, gradients: Floats, rate: Floats, decay: Floats) -> None:
        """Change `weights` in place; `gradients` may be overwritten."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What it remembers, by name."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to what `state` gave."""
        ...


def optimiser(recipe: Recipe, size: int) -> Optimiser:
    """The recipe's optimiser for `size` weights."""
    return AdamW(size) if recipe.optimiser == "adamw" else MomentumSGD(size, recipe.momentum)


@final
class MomentumSGD:
    """torch.optim.SGD: decay is part of the gradient."""

    def __init__(self, size: int, momentum: float) -> None:
        self._momentum: Final = np.float32(momentum)
        self._velocity = np.zeros(size, np.float32)
        self._spare = np.zeros(size, np.float32)

    def step(self, weights: Floats, gradients: Floats, rate: Floats, decay: Floats) -> None:
        """One step."""
        np.multiply(weights, decay, out=self._spare)
        gradients += self._spare
        self._velocity *= self._momentum
        self._velocity += gradients
        np.multiply(self._velocity, rate, out=self._spare)
        weights -= self._spare

    def state(self) -> dict[str, Tensor]:
        """As `Optimiser.state`."""
        return {"velocity": torch.from_numpy(self._velocity)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Optimiser.restore`."""
        self._velocity[:] = state["velocity"].numpy()


@final
class AdamW:
    """torch.optim.AdamW: decay acts on the weights themselves."""

    def __init__(self, size: int) -> None:
        self._steps = 0
        self._mean, self._square = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._spare = np.zeros(size, np.float32)

    def step(self, weights: Floats, gradients: Floats, rate: Floats, decay: Floats) -> None:
        """One step."""
        self._steps += 1
        weights *= 1 - rate * decay
        self._mean += np.float32(1 - _BETA_1) * (gradients - self._mean)
        self._square *= np.float32(_BETA_2)
        gradients *= gradients
        gradients *= np.float32(1 - _BETA_2)
        self._square += gradients
        np.sqrt(self._square, out=self._spare)
        self._spare /= np.float32((1 - _BETA_2**self._steps) ** 0.5)
        self._spare += np.float32(_EPSILON)
        np.divide(self._mean, self._spare, out=self._spare)
        self._spare *= rate / np.float32(1 - _BETA_1**self._steps)
        weights -= self._spare

    def state(self) -> dict[str, Tensor]:
        """As `Optimiser.state`."""
        moments = {"mean": torch.from_numpy(self._mean), "square": torch.from_numpy(self._square)}
        return {**moments, "steps": torch.tensor(self._steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """As `Optimiser.restore`."""
        self._mean[:], self._square[:] = state["mean"].numpy(), state["square"].numpy()
        self._steps = int(state["steps"])
