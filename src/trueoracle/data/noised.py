"""Images with noise: a network is asked what the noise is. The loss needs no sampling of pictures.

A dataset `denoise:NAME@SIZE` is any dataset of images at that size, as `denoise:mnist@16` or `denoise:mnist@16x24`;
`denoise:NAME@SIZE:100,500` states the noise levels that are judged. Pixels lie in [-1, 1]. At level t an image x is
seen as sqrt(a_t) x + sqrt(1 - a_t) e, where a_t is of the network's own schedule and e is noise of variance 1. The
loss of an image is the mean squared error of the noise that the network tells, over pixels and stated levels: 1 for
a network that always says there is none. Every image has its own noise, drawn from the dataset's name and size, so a loss
repeats to rounding; training draws noise and levels anew in every step.

Letters: N images, L levels of each, B images times levels, C channels, H x W pixels.
"""

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data.datasets import find_dataset
from trueoracle.data.normalisation import Normalisation
from trueoracle.data.split import Dataset, Split, images_at_once
from trueoracle.data.stored import StoredSplit, images_of
from trueoracle.nets.diffusion import LEVELS, schedule_of
from trueoracle.words.errors import DataError
from trueoracle.words.examples import Examples, Judged
from trueoracle.words.seeding import derive_seed
from trueoracle.words.shape import InputShape, NoiseShape
from trueoracle.words.spec import NOISE

_USUAL_LEVELS = (100, 300, 500, 700, 900)
_AT_ONCE = 1024  # images resized together


@dataclass(frozen=True, kw_only=True)
class Noised:
    """Images (float32, in [-1, 1]), the noise of each (its variance 1), and the levels of it that are judged (int64)."""

    images_NCHW: Tensor
    noise_NCHW: Tensor
    level_NL: Tensor

    def __len__(self) -> int:
        return len(self.images_NCHW)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.images_NCHW.device

    @property
    def at_once(self) -> int:
        """How many images a forward pass is best given, all their levels together."""
        pixels = self.images_NCHW.shape[1:].numel()
        return max(1, images_at_once(self.device, pixels) // self.level_NL.shape[1])

    def take(self, chosen: Tensor | slice) -> "Noised":
        """The images at these places with their noise and levels."""
        return Noised(
            images_NCHW=self.images_NCHW[chosen], noise_NCHW=self.noise_NCHW[chosen], level_NL=self.level_NL[chosen]
        )

    def anew(self, chance: np.random.Generator) -> "Noised":
        """The same images with other noise, each at one level drawn from all: what a step of training is on."""
        noise = torch.from_numpy(chance.standard_normal(self.images_NCHW.shape, dtype=np.float32))
        level = torch.from_numpy(chance.integers(LEVELS, size=(len(self), 1)))
        return replace(self, noise_NCHW=noise.to(self.device), level_NL=level.to(self.device))

    def train_loss(self, net: nn.Module) -> Tensor:
        """Mean squared error in the network's precision."""
        told_BCHW, noise_BCHW = self._told(net)
        return F.mse_loss(told_BCHW, noise_BCHW)

    def judge(self, net: nn.Module) -> Judged:
        """Squared errors in float64. Right is an image whose noise is told better than by saying that there is none."""
        told_BCHW, noise_BCHW = self._told(net)
        loss_N = self._of_images((told_BCHW.double() - noise_BCHW.double()).square())
        return Judged(loss_B=loss_N, right_B=loss_N < self._of_images(noise_BCHW.double().square()))

    def _told(self, net: nn.Module) -> tuple[Tensor, Tensor]:
        """What the network says of the noise, and what it is; image after image, level after level."""
        weight = next(net.parameters())
        levels = self.level_NL.shape[1]
        images_BCHW, noise_BCHW = (
            each.to(weight.dtype).repeat_interleave(levels, 0) for each in (self.images_NCHW, self.noise_NCHW)
        )
        level_B = self.level_NL.flatten()
        share_B111 = schedule_of(net).to(weight.dtype)[level_B][:, None, None, None]
        noisy_BCHW = share_B111.sqrt() * images_BCHW + (1 - share_B111).sqrt() * noise_BCHW
        return net(noisy_BCHW, level_B), noise_BCHW

    def _of_images(self, error_BCHW: Tensor) -> Tensor:
        return error_BCHW.reshape(len(self), -1).mean(1)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the name of a dataset with noise says."""

    images: str
    height: int
    width: int
    levels: tuple[int, ...]


def names_noise(name: str) -> bool:
    """Whether a dataset of this name asks for the noise in images."""
    return name.startswith(NOISE)


def noise_shape(name: str) -> NoiseShape:
    """What a network is given of the dataset; `DataError` for a name that is none's."""
    asked = _asked(name)
    shape = find_dataset(asked.images).shape
    return NoiseShape(channels=shape.channels, height=asked.height, width=asked.width)


def images_behind(name: str) -> str:
    """The dataset whose images get noise."""
    return _asked(name).images


def noised(name: str, data: Dataset) -> Dataset:
    """The dataset `denoise:...`, made from the images that are behind it, on their device.

    The fingerprint is that of these images, of the size and of the levels.
    """
    asked = _asked(name)
    splits = {
        split: _noised(
            examples, asked, derive_seed(f"{asked.images}@{asked.height}x{asked.width}", f"noise of {split}"), data
        )
        for split, examples in (("train", data.train), ("test", data.test), ("validation", data.validation))
        if examples is not None
    }
    return Dataset(
        name=name,
        shape=noise_shape(name),
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        fingerprint=sha256(f"{data.fingerprint} {asked}".encode()).hexdigest(),
        images=data,
        normalisation=Normalisation(mean=(0.5,) * data.shape.channels, deviation=(0.5,) * data.shape.channels)
        if isinstance(data.shape, InputShape)
        else None,
    )


def _noised(examples: Examples, asked: _Asked, seed: int, data: Dataset) -> Noised:
    assert isinstance(examples, Split | StoredSplit)
    parts = (examples.take(slice(start, start + _AT_ONCE)) for start in range(0, len(examples), _AT_ONCE))
    images_NCHW = torch.cat([_resized(images_of(part).images_NCHW, asked, data) for part in parts])
    noise_NCHW = np.random.default_rng(seed).standard_normal(images_NCHW.shape, dtype=np.float32)
    levels = torch.tensor(asked.levels, device=images_NCHW.device)
    return Noised(
        images_NCHW=images_NCHW,
        noise_NCHW=torch.from_numpy(noise_NCHW).to(images_NCHW.device),
        level_NL=levels.expand(len(images_NCHW), -1),
    )


def _resized(images_NCHW: Tensor, asked: _Asked, data: Dataset) -> Tensor:
    """Pixels in [-1, 1] at the size asked for; each a weighted mean of what it covers."""
    if data.normalisation is None:
        raise DataError(f"noise needs to know how `{data.name}` is normalised, which this dataset does not say")
    pixels_NCHW = data.normalisation.undo(images_NCHW).clamp_(0, 1)
    size = (asked.height, asked.width)
    if pixels_NCHW.shape[2:] != size:
        pixels_NCHW = F.interpolate(pixels_NCHW, size, mode="bilinear", antialias=True)
    return pixels_NCHW.mul_(2).sub_(1)


def _asked(name: str) -> _Asked:
    images, at, rest = name.removeprefix(NOISE).rpartition("@")
    size, _, levels = rest.partition(":")
    if not at or not images:
        raise DataError(f"`{name}` must say a size, as denoise:mnist@16 or denoise:mnist@16x24 does")
    height, by, width = size.partition("x")
    height_width = [_whole(number, name) for number in (height, width if by else height)]
    shape = find_dataset(images).shape
    for side, most in zip(height_width, (shape.height, shape.width), strict=True):
        if not 1 <= side <= most:
            raise DataError(f"`{name}`: a side must lie in [1, {most}], the size of the images, but got {side}")
    chosen = tuple(_whole(level, name) for level in levels.split(",")) if levels else _USUAL_LEVELS
    if any(level >= LEVELS for level in chosen) or len(set(chosen)) < len(chosen):
        raise DataError(f"`{name}`: noise levels must lie in [0, {LEVELS}), each once, but got {list(chosen)}")
    return _Asked(images=images, height=height_width[0], width=height_width[1], levels=chosen)


def _whole(number: str, name: str) -> int:
    if not number.isdecimal():
        raise DataError(f"`{name}`: sizes and noise levels are whole numbers, but got `{number}`")
    return int(number)
