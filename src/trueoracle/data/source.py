"""What a dataset is before it becomes tensors on a device: bytes of pixels, and how to come by them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from trueoracle.data.normalisation import Normalisation
from trueoracle.words.progress import Progress
from trueoracle.words.shape import InputShape


@dataclass(frozen=True, kw_only=True)
class RawSplit:
    """Pixels `images_NCHW` (uint8, 0-255) and classes `labels_N` (int64); both may be mapped from disk.

    Images have the network's size or a larger one, of which a network sees the middle and augmentation the whole.
    """

    images_NCHW: Tensor
    labels_N: Tensor


@dataclass(frozen=True, kw_only=True)
class RawData:
    """The splits of a dataset as its authors cut them; few have a third, for validation.

    `fingerprint` and `normalisation` (of the train pixels) are there where they were found already.
    """

    train: RawSplit
    test: RawSplit
    fingerprint: str | None = None
    normalisation: Normalisation | None = None
    validation: RawSplit | None = None

    def splits(self) -> dict[str, RawSplit]:
        """Those that there are, by name."""
        known = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: split for name, split in known.items() if split is not None}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset by its facts: the shape it has for a network, and per channel the mean and deviation of
    its pixels (of 0 ... 1) by which it is normalised; None for those of the train pixels. `read(data_dir, progress)`
    brings the pixels; `data_dir` is the folder that the user named, if any.
    """

    shape: InputShape
    read: Callable[[Path | None, Progress], RawData]
    normalisation: Normalisation | None = None
