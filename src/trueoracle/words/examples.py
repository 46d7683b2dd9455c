"""Examples: what a network is asked, and what answers are right. A whole split is some, and so is a batch of it.

What differs between tasks is here alone, so that the plain loops serve all of them. Images to be classified are one
kind (`trueoracle.data.Split`); paths that know of no other kind narrow with `isinstance` and refuse with a reason.

Letters: B examples, A answers to be foretold (one an image; one a token of a question's answer), K classes or tokens.
"""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A network's answers to B examples: the loss of each (float64), and whether each is right (bool).

    The loss is in nats; that of noise is a squared error, in units of the noise's variance.
    """

    loss_B: Tensor
    right_B: Tensor


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """What a network makes of every single answer: the train loss is the cross-entropy of `logits_AK` with
    `targets_A` (int64), each weighed by `weight_A` (float32), which sum to 1.
    """

    logits_AK: Tensor
    targets_A: Tensor
    weight_A: Tensor


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


@runtime_checkable
class Classified(Protocol):
    """Examples whose answers are classes or tokens, foretold by logits. Other tasks (numbers, noise) are not."""

    def foretell(self, net: nn.Module) -> Foretold:
        """The logits that the train loss is made of, in the network's precision; gradients flow through them."""
        ...
