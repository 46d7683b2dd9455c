"""The training loop, one network at a time: data on the device, shuffled each epoch, evaluated each epoch.

Letters: B batch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trueoracle.data import Dataset, torch_seeded
from trueoracle.fleet.evaluated import evaluated
from trueoracle.fleet.lora import merge_adapters, put_adapters
from trueoracle.fleet.objective import TrainLoss, objective
from trueoracle.nets import channels_last
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, SplitAnswers, counted_epoch


class Stopped(Exception):
    """The user asked for an end in the middle of a training."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training hands back: the network the recipe keeps, its curve an epoch, and how it ended.

    `answers`, by split, are those of the epoch that counts as final, which need not be the one kept.
    """

    net: nn.Module
    curve: tuple[Figures, ...]
    outcome: Outcome
    answers: Mapping[str, SplitAnswers] = field(default_factory=dict)


def train(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    order_seed: int,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[], None] = lambda: None,
    final: FinalProtocol = FinalProtocol.LAST,
) -> Trained:
    """Train a copy of `net`; the order of the examples depends on `order_seed` and the epoch alone.

    Augmentation, mixing and dropout depend on these and the number of the batch: what else runs changes nothing.
    A network whose loss is no longer finite is `DIVERGED` and keeps the curve up to there. `stop` is asked
    before every step; where it says yes, `Stopped` is raised. `final` says which epoch's answers are handed back.
    """
    net = channels_last(deepcopy(net))
    if recipe.lora is not None:
        put_adapters(net, recipe.lora, order_seed)
    optimiser, on_batch = _optimiser(net, recipe), objective(recipe, data)
    draws = True  # whether the network draws random numbers, as dropout does: until a step has shown otherwise
    curve: list[Figures] = []
    answers: Mapping[str, SplitAnswers] = {}
    kept = net
    for epoch, order in orders(recipe, len(data.train), order_seed):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch)
        net.train()
        for number, batch_B in enumerate(batches(order, recipe.batch_size, data.device), 1):
            if stop():
                raise Stopped
            chance = np.random.default_rng([order_seed, epoch, number])
            batch = on_batch(batch_B, chance)
            with torch.autocast(data.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss, draws = _seeded_loss(batch, net, chance) if draws else (batch.train_loss(net), False)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.gradient_clipping is not None:
                nn.utils.clip_grad_norm_(net.parameters(), recipe.gradient_clipping)
            optimiser.step()
        now = evaluated(net, data)
        if not now.figures.finite():
            return Trained(net=_whole(net, recipe), curve=tuple(curve), outcome=Outcome.DIVERGED)
        curve.append(now.figures)
        if counted_epoch(curve, final) == epoch:
            answers = now.answers
        if recipe.keep != "last" and counted_epoch(curve, FinalProtocol(recipe.keep)) == epoch:
            kept = deepcopy(net)
        on_epoch()
    return Trained(net=_whole(kept, recipe), curve=tuple(curve), outcome=Outcome.FINISHED, answers=answers)


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The rate of one epoch, counted from 0."""
    if epoch < recipe.warmup_epochs:
        return recipe.lr * (epoch + 1) / recipe.warmup_epochs
    match recipe.schedule:
        case "constant":
            return recipe.lr
        case "step":
            return recipe.lr * recipe.factor ** sum(epoch >= milestone for milestone in recipe.milestones)
        case "cosine":
            gone, all_in_all = epoch - recipe.warmup_epochs, recipe.epochs - recipe.warmup_epochs
            return recipe.lr * (1 + math.cos(math.pi * gone / all_in_all)) / 2


def order_of_epoch(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """In which order an epoch, counted from 0, goes through the examples."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def orders(recipe: Recipe, images: int, seed: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each epoch, counted from 0, and the order of its images; the last is cut where `recipe.steps` end the training."""
    an_epoch = -(-images // recipe.batch_size)
    for epoch in range(recipe.epochs_begun(images)):
        order = order_of_epoch(images, seed, epoch)
        yield epoch, order if recipe.steps is None else order[: (recipe.steps - epoch * an_epoch) * recipe.batch_size]


def batches(order_N: NDArray[np.int64], size: int, device: torch.device) -> tuple[Tensor, ...]:
    """Places of images in batches; the last may be smaller."""
    return torch.split(torch.from_numpy(order_N).to(device), size)


def _whole(net: nn.Module, recipe: Recipe) -> nn.Module:
    """The network as it is handed back: in eval mode, its adapters, if it has any, merged into its weights."""
    if recipe.lora is not None:
        merge_adapters(net)
    return net.eval()


def _seeded_loss(batch: TrainLoss, net: nn.Module, chance: np.random.Generator) -> tuple[Tensor, bool]:
    """The loss, by random numbers of this step alone, and whether there were any."""
    with torch_seeded(int(chance.integers(2**63))) as drawn:
        return batch.train_loss(net), drawn()


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
