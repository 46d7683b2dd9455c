"""Images that stay bytes, in memory or on disk, and become what a network sees a batch at a time.

Letters: N images, C channels, H x W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trueoracle.data.normalisation import Normalisation
from trueoracle.data.split import Split, images_at_once
from trueoracle.words.errors import DataError
from trueoracle.words.examples import Examples, Foretold, Judged


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """Examples to be classified, like `Split`, for images that are many or are kept larger than a network sees them.

    `pixels_NCHW` (uint8) may be mapped from disk; of its images these are the ones at `places_N`, with the classes
    `labels_N` on the device. A network sees the middle, `size` (height, width), normalised.
    """

    pixels_NCHW: Tensor
    places_N: Tensor
    labels_N: Tensor
    size: tuple[int, int]
    normalisation: Normalisation

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def device(self) -> torch.device:
        """Where batches are brought to."""
        return self.labels_N.device

    @property
    def at_once(self) -> int:
        """How many images a forward pass is best given."""
        return images_at_once(self.device, self.pixels_NCHW.shape[1] * self.size[0] * self.size[1])

    def take(self, chosen: Tensor | slice) -> "StoredSplit":
        """The images at these places with their classes; none is read yet."""
        places = chosen if isinstance(chosen, slice) else chosen.to(self.places_N.device)
        return StoredSplit(
            pixels_NCHW=self.pixels_NCHW,
            places_N=self.places_N[places],
            labels_N=self.labels_N[chosen],
            size=self.size,
            normalisation=self.normalisation,
        )

    def loaded(self) -> Split:
        """The images as a network sees them (float32), on the device: for a part of a split that fits there."""
        (height, width), (kept_height, kept_width) = self.size, self.pixels_NCHW.shape[2:]
        top, left = (kept_height - height) // 2, (kept_width - width) // 2
        return self._normalised(self._pixels()[:, :, top : top + height, left : left + width])

    def uncropped(self) -> Split:
        """As `loaded`, at the size the images are kept in."""
        return self._normalised(self._pixels())

    def train_loss(self, net: nn.Module) -> Tensor:
        """As `Split.train_loss`."""
        return self.loaded().train_loss(net)

    def judge(self, net: nn.Module) -> Judged:
        """As `Split.judge`."""
        return self.loaded().judge(net)

    def foretell(self, net: nn.Module) -> Foretold:
        """As `Split.foretell`."""
        return self.loaded().foretell(net)

    def _pixels(self) -> Tensor:
        return self.pixels_NCHW[self.places_N].to(self.device)

    def _normalised(self, pixels_NCHW: Tensor) -> Split:
        images_NCHW = self.normalisation(pixels_NCHW.to(torch.float32).div_(255))
        return Split(images_NCHW=images_NCHW, labels_N=self.labels_N)


def images_of(examples: Examples) -> Split:
    """`examples`, known to be images to be classified, on the device; `DataError` where they are something else."""
    if isinstance(examples, StoredSplit):
        return examples.loaded()
    if not isinstance(examples, Split):
        raise DataError(f"images to be classified are needed here, but got {type(examples).__name__}")
    return examples
