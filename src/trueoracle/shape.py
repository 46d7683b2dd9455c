"""What goes into a network and how many classes come out."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class InputShape:
    """Images of `channels` x `height` x `width`, sorted into `classes`."""

    channels: int
    height: int
    width: int
    classes: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width} images of {self.classes} classes"
