"""A dataset as a network sees it: each split examples on the device, images normalised."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.data.catalogue import find_dataset
from trueoracle.data.source import RawData, RawSplit, Source
from trueoracle.errors import DataError
from trueoracle.examples import Examples, Judged
from trueoracle.progress import Progress
from trueoracle.shape import InputShape

# Small enough that a LeNet's activations stay in a CPU core's cache, large enough to keep a GPU busy.
_AT_ONCE = {"cpu": 250, "cuda": 4096}


@dataclass(frozen=True, kw_only=True)
class Split:
    """Examples to be classified: normalised `images_NCHW` (float32) and classes `labels_N` (int64), on one device.

    The loss is cross-entropy, the right answer the class of largest logit.
    """

    images_NCHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def device(self) -> torch.device:
        """Where both tensors lie."""
        return self.labels_N.device

    @property
    def at_once(self) -> int:
        """How many images a forward pass is best given."""
        return _AT_ONCE[self.device.type]

    def take(self, chosen: Tensor | slice) -> "Split":
        """The images at these places with their classes."""
        return Split(images_NCHW=self.images_NCHW[chosen], labels_N=self.labels_N[chosen])

    def train_loss(self, net: nn.Module) -> Tensor:
        """Mean cross-entropy in the network's precision."""
        return F.cross_entropy(net(self.images_NCHW), self.labels_N)

    def judge(self, net: nn.Module) -> Judged:
        """Logits in the network's precision, cross-entropy in float64."""
        logits_NK = net(self.images_NCHW).double()
        return Judged(
            loss_B=F.cross_entropy(logits_NK, self.labels_N, reduction="none"),
            right_B=logits_NK.argmax(1) == self.labels_N,
        )


def images_of(examples: Examples) -> Split:
    """`examples`, known to be images to be classified; `DataError` where they are something else."""
    if not isinstance(examples, Split):
        raise DataError(f"images to be classified are needed here, but got {type(examples).__name__}")
    return examples


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Both splits; `fingerprint` is the SHA-256 of what they were made from: pixels and labels before normalising."""

    name: str
    shape: InputShape
    train: Examples
    test: Examples
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.train.device


def load_dataset(name: str, data_dir: Path | None, device: torch.device, progress: Progress) -> Dataset:
    """The dataset called `name`, from `data_dir` (or its own source) onto `device`; `DataError` if it is not to be had."""
    source = find_dataset(name)
    raw = source.read(data_dir, progress)
    return Dataset(
        name=name,
        shape=source.shape,
        train=_on_device(raw.train, source, device),
        test=_on_device(raw.test, source, device),
        fingerprint=_fingerprint(raw),
    )


def _on_device(raw: RawSplit, source: Source, device: torch.device) -> Split:
    mean_C11 = torch.tensor(source.mean, device=device)[:, None, None]
    deviation_C11 = torch.tensor(source.deviation, device=device)[:, None, None]
    images_NCHW = raw.images_NCHW.to(device, torch.float32).div_(255).sub_(mean_C11).div_(deviation_C11)
    return Split(images_NCHW=images_NCHW, labels_N=raw.labels_N.to(device))


def _fingerprint(raw: RawData) -> str:
    digest = sha256()
    for split in (raw.train, raw.test):
        digest.update(split.images_NCHW.numpy().tobytes())
        digest.update(split.labels_N.numpy().tobytes())
    return digest.hexdigest()
