"""What a step of training lowers: the loss on a batch, after the recipe's changes to images and targets.

Letters: B batch, C channels, H x W pixels, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data import Augmenter, Dataset, Noised, Split, StoredSplit, images_of
from trueoracle.fleet.distillation import answers_of, divergence
from trueoracle.fleet.mixing import mixed
from trueoracle.words.errors import SpecError
from trueoracle.words.spec import Augmentation, Distillation, Recipe


class TrainLoss(Protocol):
    """A batch that knows its loss; `trueoracle.words.examples.Examples` are some."""

    def train_loss(self, net: nn.Module) -> Tensor:
        """A scalar in the network's precision."""
        ...


Objective = Callable[[Tensor, np.random.Generator], TrainLoss]
"""From the places of a batch's examples to what is minimised on it; what is random depends on the generator alone."""


@dataclass(frozen=True, kw_only=True)
class Softened:
    """Images whose targets are not one class each: smoothed, and shared with the classes `others_B`.

    `share` belongs to `labels_B`, the rest to `others_B`.
    """

    images_BCHW: Tensor
    labels_B: Tensor
    others_B: Tensor
    share: float
    smoothing: float

    def train_loss(self, net: nn.Module) -> Tensor:
        """Mean cross-entropy with the soft targets."""
        return self.loss(net(self.images_BCHW))

    def loss(self, logits_BK: Tensor) -> Tensor:
        """The same of logits."""
        loss = F.cross_entropy(logits_BK, self.labels_B, label_smoothing=self.smoothing)
        if self.share == 1:
            return loss
        other = F.cross_entropy(logits_BK, self.others_B, label_smoothing=self.smoothing)
        return self.share * loss + (1 - self.share) * other


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """Images whose targets are partly a teacher's answers to them, as they are after all changes."""

    given: Softened
    teacher: nn.Module
    distill: Distillation

    def train_loss(self, net: nn.Module) -> Tensor:
        """The loss with the targets given, and by its weight the divergence from the teacher."""
        logits_BK = net(self.given.images_BCHW)
        taught_BK = answers_of(self.teacher, self.given.images_BCHW)
        apart = divergence(logits_BK, taught_BK, self.distill.temperature).mean()
        return self.given.loss(logits_BK).lerp(apart, self.distill.weight)


def objective(recipe: Recipe, data: Dataset, teacher: nn.Module | None = None) -> Objective:
    """The recipe's objective on the train split; `SpecError` where it is for images and the data holds none.

    `teacher`, in eval mode, is asked where the recipe distills.
    """
    train = data.train
    if isinstance(train, Noised) and not recipe.for_images:
        return lambda batch_B, chance: train.take(batch_B).anew(chance)
    if not recipe.for_images:
        return lambda batch_B, _chance: train.take(batch_B)
    if not isinstance(train, Split | StoredSplit):
        raise SpecError(
            f"`{recipe.for_images[0]}` is for images to be classified, but `{data.name}` holds other examples"
        )
    images_of_batch = _images(recipe.augmentation, data, train)

    def on_batch(batch_B: Tensor, chance: np.random.Generator) -> Softened | Distilled:
        labels_B = train.labels_N[batch_B]
        images_BCHW, others_B, share = mixed(images_of_batch(batch_B, chance), labels_B, recipe, chance)
        given = Softened(
            images_BCHW=images_BCHW,
            labels_B=labels_B,
            others_B=others_B,
            share=share,
            smoothing=recipe.label_smoothing,
        )
        if recipe.distill is None:
            return given
        assert teacher is not None
        return Distilled(given=given, teacher=teacher, distill=recipe.distill)

    return on_batch


def _images(
    augmentation: Augmentation, data: Dataset, train: Split | StoredSplit
) -> Callable[[Tensor, np.random.Generator], Tensor]:
    if augmentation == Augmentation():
        return lambda batch_B, _chance: images_of(train.take(batch_B)).images_NCHW
    if data.normalisation is None:
        raise SpecError(
            f"`augmentation` needs to know how `{data.name}` is normalised, which this dataset does not say"
        )
    augment = Augmenter(augmentation, train.size, data.normalisation)

    def augmented(batch_B: Tensor, chance: np.random.Generator) -> Tensor:
        batch = train.take(batch_B)
        if augmentation.resized_crop is not None and isinstance(batch, StoredSplit):
            return augment(batch.uncropped().images_NCHW, chance)
        return augment(images_of(batch).images_NCHW, chance)

    return augmented
