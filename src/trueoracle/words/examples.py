"""Examples: what a network is asked, and what answers are right. A whole split is some, and so is a batch of it.

What differs between tasks is here alone, so that the plain loops serve all of them. Images to be classified are one
kind (`trueoracle.data.Split`); paths that know of no other kind narrow with `isinstance` and refuse with a reason.

Letters: B examples.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A network's answers to B examples: the loss of each in nats (float64), and whether each is right (bool)."""

    loss_B: Tensor
    right_B: Tensor


class Examples(Protocol):
    """Examples that lie on one device, in an order."""

    def __len__(self) -> int: ...

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        ...

    @property
    def at_once(self) -> int:
        """How many of them a forward pass that keeps no gradients is best given."""
        ...

    def take(self, chosen: Tensor | slice) -> Self:
        """The examples at these places, in that order."""
        ...

    def train_loss(self, net: nn.Module) -> Tensor:
        """What a step of training lowers: the mean loss over the examples, a scalar in the network's precision."""
        ...

    def judge(self, net: nn.Module) -> Judged:
        """Losses and right answers, one by one."""
        ...
