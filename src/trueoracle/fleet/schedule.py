"""What a training does when: the learning rate of an epoch, the order of its examples, and its batches.

Letters: N examples, B batch.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueoracle.words.spec import Recipe


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
