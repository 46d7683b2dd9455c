"""Pixels of 0 ... 1 to what a network sees, and back."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Per channel the mean and the deviation of pixels of 0 ... 1."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, pixels_NCHW: Tensor) -> Tensor:
        """Pixels of 0 ... 1, normalised in place."""
        mean_C11, deviation_C11 = self._as(pixels_NCHW)
        return pixels_NCHW.sub_(mean_C11).div_(deviation_C11)

    def undo(self, images_NCHW: Tensor) -> Tensor:
        """Pixels of 0 ... 1 again, to rounding; new ones."""
        mean_C11, deviation_C11 = self._as(images_NCHW)
        return images_NCHW.mul(deviation_C11).add_(mean_C11)

    def _as(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_C11, deviation_C11 = (
            torch.tensor(values, device=images_NCHW.device, dtype=images_NCHW.dtype)[:, None, None]
            for values in (self.mean, self.deviation)
        )
        return mean_C11, deviation_C11


class Levels:
    """How often each of the 256 levels occurs in each channel: the exact way to a mean and a deviation."""

    def __init__(self, channels: int) -> None:
        self._counts = np.zeros((channels, 256), dtype=np.int64)

    def add(self, images_NCHW: NDArray[np.uint8]) -> None:
        """Count the pixels of more images."""
        for counts, pixels in zip(self._counts, images_NCHW.swapaxes(0, 1), strict=True):
            counts += np.bincount(pixels.reshape(-1), minlength=256)

    def normalisation(self) -> Normalisation:
        """Mean and deviation of what was counted, each pixel divided by 255."""
        level = np.arange(256) / 255
        total = self._counts.sum(axis=1)
        mean = self._counts @ level / total
        deviation = np.sqrt(np.maximum(self._counts @ level**2 / total - mean**2, 0))
        return Normalisation(mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()))
