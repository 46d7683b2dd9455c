"""The training loop, one network at a time: data on the device, shuffled each epoch, evaluated each epoch.

Letters: N images, C channels, H x W pixels, B batch.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from trueoracle.data import Dataset, Split
from trueoracle.nets import channels_last, evaluate
from trueoracle.spec import Recipe
from trueoracle.trial import Figures, Outcome, best_epoch


class Stopped(Exception):
    """The user asked for an end in the middle of a training."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training hands back: the network the recipe keeps, its curve an epoch, and how it ended."""

    net: nn.Module
    curve: tuple[Figures, ...]
    outcome: Outcome


def train(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    order_seed: int,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[], None] = lambda: None,
) -> Trained:
    """Train a copy of `net`; the order of the images depends on `order_seed` and the epoch alone.

    A network whose loss is no longer finite is `DIVERGED` and keeps the curve up to there. `stop` is asked
    before every step; where it says yes, `Stopped` is raised.
    """
    net = channels_last(deepcopy(net))
    optimiser = _optimiser(net, recipe)
    curve: list[Figures] = []
    kept = net
    for epoch in range(recipe.epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch)
        net.train()
        for batch_B in shuffled_batches(data.train, recipe.batch_size, order_seed, epoch):
            if stop():
                raise Stopped
            with torch.autocast(data.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                logits_BK = net(data.train.images_NCHW[batch_B])
            loss = F.cross_entropy(in_full(logits_BK), data.train.labels_N[batch_B])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        figures = figures_of(net, data)
        if not figures.finite():
            return Trained(net=net.eval(), curve=tuple(curve), outcome=Outcome.DIVERGED)
        curve.append(figures)
        if recipe.keep == "best_on_test" and best_epoch(curve) == epoch:
            kept = deepcopy(net)
        on_epoch()
    return Trained(net=kept.eval(), curve=tuple(curve), outcome=Outcome.FINISHED)


def in_full(logits: Tensor) -> Tensor:
    """Logits in the precision that losses are computed in: float32, or better where they are better."""
    return logits.float() if logits.dtype == torch.bfloat16 else logits


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The rate of one epoch, counted from 0."""
    match recipe.schedule:
        case "constant":
            return recipe.lr
        case "step":
            return recipe.lr * recipe.factor ** sum(epoch >= milestone for milestone in recipe.milestones)
        case "cosine":
            return recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2


def figures_of(net: nn.Module, data: Dataset) -> Figures:
    """Losses and accuracies on both splits, eval mode."""
    train, test = (evaluate(net, split.images_NCHW, split.labels_N) for split in (data.train, data.test))
    return Figures(
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        test_loss=test.loss,
        test_accuracy=test.accuracy,
    )


def order_of_epoch(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """In which order an epoch, counted from 0, goes through the images."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def shuffled_batches(split: Split, size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The images of one epoch, shuffled, in batches; the last may be smaller."""
    order = torch.from_numpy(order_of_epoch(len(split), seed, epoch))
    return torch.split(order.to(split.labels_N.device), size)


def _optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
