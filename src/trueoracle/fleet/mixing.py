"""Batches mixed with themselves in another order: mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899).

Written out rather than taken from kornia, whose mixup knows no Beta distribution. Letters: B batch, C channels,
H x W pixels.
"""

import numpy as np
import torch
from torch import Tensor

from trueoracle.words.spec import Recipe


def mixed(
    images_BCHW: Tensor, labels_B: Tensor, recipe: Recipe, chance: np.random.Generator
) -> tuple[Tensor, Tensor, float]:
    """Images mixed as the recipe says, by one share (and box) a batch; the classes mixed in; the share of their own."""
    given = [(way, a) for way, a in ((averaged, recipe.mixup), (pasted, recipe.cutmix)) if a is not None]
    if not given:
        return images_BCHW, labels_B, 1.0
    way, concentration = given[chance.integers(len(given))]
    pairs_B = torch.from_numpy(chance.permutation(len(labels_B))).to(labels_B.device)
    drawn = chance.beta(concentration, concentration)
    images_BCHW, share = way(images_BCHW, images_BCHW[pairs_B], drawn, chance)
    return images_BCHW, labels_B[pairs_B], share


def averaged(own: Tensor, other: Tensor, share: float, _chance: np.random.Generator) -> tuple[Tensor, float]:
    """`share` of one image and the rest of the other (mixup)."""
    return own * share + other * (1 - share), share


def pasted(own: Tensor, other: Tensor, share: float, chance: np.random.Generator) -> tuple[Tensor, float]:
    """The other image in a box of 1 - `share` of the area, of the image's aspect, about a random point (CutMix).

    The part of the box that lies outside is lost; what comes back is the share that is really left.
    """
    height, width = own.shape[-2:]
    rows, columns = _stretch(height, share, chance), _stretch(width, share, chance)
    images = own.clone()
    images[..., rows, columns] = other[..., rows, columns]
    return images, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)


def _stretch(length: int, share: float, chance: np.random.Generator) -> slice:
    side, centre = int(length * (1 - share) ** 0.5), int(chance.integers(length))
    return slice(max(centre - side // 2, 0), min(centre + (side + 1) // 2, length))
