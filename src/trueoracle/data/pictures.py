"""Pictures as they are found, and how one becomes pixels.

Letters: C channels, H x W pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trueoracle.words.errors import DataError

_GREY_MODES = ("1", "L", "LA")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An encoded image, its class, and what an error is to call it."""

    content: bytes | Path
    label: int
    where: str


Pictures = Callable[[], tuple[int, Iterator[Picture]]]
"""A split that is opened by calling it: how many pictures it has, and the pictures."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The form of all pictures once they are decoded: uint8 of `channels` x `height` x `width`.

    Pictures must be of size `native` (height, width) and are scaled bilinearly. Where it is None, any size will do:
    the short side is scaled to the longer of `height` and `width`, and the middle is cut out. `advice` ends the line
    that a picture of another size gets.
    """

    channels: int
    height: int
    width: int
    native: tuple[int, int] | None
    advice: str = ""

    def of(self, picture: Picture) -> NDArray[np.uint8]:
        """CHW; `DataError` where the picture cannot be read or has another form."""
        image = open_picture(picture)
        if self.native is not None and image.size != self.native[::-1]:
            raise DataError(f"{picture.where} has {_by(image.size)} pixels, not {_by(self.native[::-1])}{self.advice}")
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{picture.where} has more than 8 bits a pixel and channel")
        if self.channels == 1 and not is_grey(image):
            raise DataError(f"{picture.where} has colours, but this is a set of grey images")
        try:
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # else PIL warns; what is transparent keeps its colour
            image = self._scaled(image.convert("L" if self.channels == 1 else "RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for a picture that breaks off
            raise _unreadable(picture, error) from error
        return np.asarray(image).reshape(self.height, self.width, self.channels).transpose(2, 0, 1)

    def _scaled(self, image: Image.Image) -> Image.Image:
        wanted = (self.width, self.height)
        if self.native is not None:
            return image if image.size == wanted else image.resize(wanted, Image.Resampling.BILINEAR)
        short, target = min(image.size), max(wanted)
        across, down = (side * target // short for side in image.size)
        image = image.resize((across, down), Image.Resampling.BILINEAR)
        left, top = (across - self.width) // 2, (down - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))


def open_picture(picture: Picture) -> Image.Image:
    """The picture with its size and mode known and its pixels not read yet."""
    content = picture.content
    try:
        return Image.open(BytesIO(content if isinstance(content, bytes) else content.read_bytes()))
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(picture, error) from error


def is_grey(image: Image.Image) -> bool:
    """Whether the image knows no colours."""
    return image.mode in _GREY_MODES


def _unreadable(picture: Picture, error: Exception) -> DataError:
    if isinstance(error, UnidentifiedImageError):
        return DataError(f"{picture.where} is no image of a known format")
    return DataError(f"{picture.where} cannot be read: {error}".splitlines()[0])


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
