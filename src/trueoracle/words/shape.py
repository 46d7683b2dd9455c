"""What goes into a network: images, of which it tells the class or the noise, or text, which it goes on with."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class TextShape:
    """Text, with pictures or without, in whatever tokens the network's own tokenizer makes of it."""

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseShape:
    """Images of `channels` x `height` x `width` with noise of a known level, of which a network tells the noise."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width} images with noise"


Shape = InputShape | TextShape | NoiseShape
