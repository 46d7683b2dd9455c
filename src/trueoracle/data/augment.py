"""Random changes of whole batches of images on their device, by kornia.

Letters: B batch, C channels, H x W pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueoracle.data.chance import torch_seeded
from trueoracle.data.normalisation import Normalisation
from trueoracle.words.errors import SpecError
from trueoracle.words.spec import Augmentation, RandAugment

_ASPECTS = (3 / 4, 4 / 3)

# kornia's default policy, written out so that a recipe means the same with every version of it: the range of an
# operation's strength, of which `magnitude` / 30 is gone through.
_OPERATIONS = [
    ("auto_contrast", 0, 1),
    ("equalize", 0, 1),
    ("invert", 0, 1),
    ("rotate", -30.0, 30.0),
    ("posterize", 4.0, 8.0),
    ("solarize", 0.0, 1.0),
    ("solarize_add", 0.0, 0.43),
    ("color", 0.1, 1.9),
    ("contrast", 0.1, 1.9),
    ("brightness", 0.1, 1.9),
    ("sharpness", 0.1, 1.9),
    ("shear_x", -0.3, 0.3),
    ("shear_y", -0.3, 0.3),
    ("translate_x", -0.1, 0.1),
    ("translate_y", -0.1, 0.1),
]


class Augmenter:
    """Changes batches as an `Augmentation` says. One is for one thread; making one imports kornia, a second or two.

    `size` is the (height, width) that comes out; images that go in may be larger where `resized_crop` is given.
    """

    def __init__(self, augmentation: Augmentation, size: tuple[int, int], normalisation: Normalisation) -> None:
        self._normalisation = normalisation
        self._crop_and_flip = _crop_and_flip(augmentation, size)
        self._rand_augment = augmentation.rand_augment
        if self._rand_augment is not None:
            if len(normalisation.mean) != 3:
                raise SpecError(f"`rand_augment` needs images of 3 channels, but these have {len(normalisation.mean)}")
            self._operations = _operations(self._rand_augment)

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, chance: np.random.Generator) -> Tensor:
        """Normalised images, changed; new ones each, of numbers that depend on the state of `chance` alone."""
        images_BCHW = self._normalisation.undo(images_BCHW).clamp_(0, 1)
        for change in self._crop_and_flip:
            images_BCHW = _changed(change, images_BCHW, chance)
        if self._rand_augment is not None:
            for _ in range(self._rand_augment.operations):
                images_BCHW = self._one_operation_each(images_BCHW, chance)
        return self._normalisation(images_BCHW)

    def _one_operation_each(self, images_BCHW: Tensor, chance: np.random.Generator) -> Tensor:
        """Every image draws its own operation; kornia's RandAugment draws one for the whole batch."""
        drawn_B = torch.from_numpy(chance.integers(len(self._operations), size=len(images_BCHW)))
        drawn_B = drawn_B.to(images_BCHW.device)
        changed_BCHW = torch.empty_like(images_BCHW)
        for number, operation in enumerate(self._operations):
            if (chosen := torch.nonzero(drawn_B == number).flatten()).numel():
                changed_BCHW[chosen] = _changed(operation, images_BCHW[chosen], chance)
        return changed_BCHW


def _crop_and_flip(augmentation: Augmentation, size: tuple[int, int]) -> list[Any]:
    from kornia import augmentation as kornia  # seconds to import, so only where a recipe augments

    changes: list[Any] = []
    if augmentation.crop_padding:
        changes.append(kornia.RandomCrop(size, padding=augmentation.crop_padding))
    if augmentation.resized_crop is not None:
        changes.append(kornia.RandomResizedCrop(size, scale=(augmentation.resized_crop, 1.0), ratio=_ASPECTS))
    if augmentation.flip:
        changes.append(kornia.RandomHorizontalFlip(p=0.5))
    return changes


def _operations(wanted: RandAugment) -> list[Any]:
    from kornia.augmentation.auto import RandAugment as Kornias

    return [Kornias(n=1, m=wanted.magnitude, policy=[[operation]]) for operation in _OPERATIONS]


def _changed(change: Any, images_BCHW: Tensor, chance: np.random.Generator) -> Tensor:
    """The change with its parameters drawn apart from the work, which other threads need not wait for."""
    with torch_seeded(int(chance.integers(2**63))):
        parameters = change.forward_parameters(images_BCHW.shape)
    changed: Tensor = change(images_BCHW, params=parameters)
    return changed
