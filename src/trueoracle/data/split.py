"""A dataset as a network sees it: each split two tensors on the device, normalised."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from trueoracle.data.catalogue import find_dataset
from trueoracle.data.source import RawData, RawSplit, Source
from trueoracle.progress import Progress
from trueoracle.shape import InputShape


@dataclass(frozen=True, kw_only=True)
class Split:
    """Normalised `images_NCHW` (float32) and classes `labels_N` (int64), both on one device."""

    images_NCHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Both splits; `fingerprint` is the SHA-256 of their pixels and labels before normalising."""

    name: str
    shape: InputShape
    train: Split
    test: Split
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.train.labels_N.device


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
