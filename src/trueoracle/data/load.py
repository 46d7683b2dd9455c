"""From a dataset's name to its splits on the device.

Letters: N images, C channels, H x W pixels.
"""

import os
from hashlib import sha256
from pathlib import Path

import torch

from trueoracle.data.datasets import find_dataset
from trueoracle.data.noised import images_behind, names_noise, noised
from trueoracle.data.normalisation import Levels, Normalisation
from trueoracle.data.question_sets import Drawn, load_questions, names_questions
from trueoracle.data.source import RawData, RawSplit
from trueoracle.data.split import Dataset, Split
from trueoracle.data.stored import StoredSplit
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Progress
from trueoracle.words.shape import InputShape

# What one dataset may take of the device's memory.
LARGEST, SHARE = 8 * 2**30, 4


def load_dataset(
    name: str,
    data_dir: Path | None,
    device: torch.device,
    progress: Progress,
    largest: int | None = None,
    drawn: Drawn | None = None,
) -> Dataset:
    """The dataset called `name`, from `data_dir` (or its own source) onto `device`; `DataError` if it is not to be had.

    Images of the network's size lie on the device whole and normalised, if all splits take `largest` bytes at most
    (by default `room` of the device). Others stay bytes, on the device if those take no more than that, else on disk.
    Questions (`qa:...`) are read as `drawn` says. Images with noise (`denoise:...`) lie on the device whole.
    """
    if names_noise(name):
        return noised(name, load_dataset(images_behind(name), data_dir, device, progress, largest))
    if names_questions(name):
        return load_questions(name, drawn or Drawn(), data_dir, device, progress)
    source = find_dataset(name)
    raw = source.read(data_dir, progress)
    _check(raw, source.shape, name)
    normalisation = source.normalisation or raw.normalisation or _normalisation(raw)
    if min(normalisation.deviation) <= 0:
        raise DataError(f"all pixels of a channel of the train images of `{name}` are alike: there is nothing to see")
    largest = room(device) if largest is None else largest
    splits = {
        name: _split(split, raw, source.shape, normalisation, device, largest) for name, split in raw.splits().items()
    }
    return Dataset(
        name=name,
        shape=source.shape,
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        fingerprint=raw.fingerprint or _fingerprint(raw),
        normalisation=normalisation,
    )


def room(device: torch.device) -> int:
    """Bytes that a dataset may take on the device: a quarter of its memory, and 8 GiB at most."""
    if device.type == "cuda":
        return min(LARGEST, torch.cuda.get_device_properties(device).total_memory // SHARE)
    if not hasattr(os, "sysconf"):  # Windows
        return LARGEST
    return min(LARGEST, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // SHARE)


def _split(
    split: RawSplit, raw: RawData, shape: InputShape, normalisation: Normalisation, device: torch.device, largest: int
) -> Split | StoredSplit:
    pixels, labels_N = split.images_NCHW, split.labels_N.to(device)
    size = (shape.height, shape.width)
    bytes_of_all = sum(one.images_NCHW.numel() for one in raw.splits().values())
    if pixels.shape[2:] == size and bytes_of_all * torch.float32.itemsize <= largest:
        images_NCHW = normalisation(pixels.to(device, torch.float32).div_(255))
        return Split(images_NCHW=images_NCHW, labels_N=labels_N)
    if bytes_of_all <= largest:
        pixels = pixels.to(device, copy=True)
    return StoredSplit(
        pixels_NCHW=pixels,
        places_N=torch.arange(len(pixels), device=pixels.device),
        labels_N=labels_N,
        size=size,
        normalisation=normalisation,
    )


def _check(raw: RawData, shape: InputShape, name: str) -> None:
    """`DataError` where a source brings something else than it says."""
    for split, data in raw.splits().items():
        images, labels = data.images_NCHW, data.labels_N
        where = f"the {split} split of `{name}`"
        if images.dtype is not torch.uint8 or images.ndim != 4 or images.shape[1] != shape.channels:
            raise DataError(
                f"{where} must hold uint8 images of {shape.channels} channels, NCHW, but holds {images.dtype} {tuple(images.shape)}"
            )
        if images.shape[2] < shape.height or images.shape[3] < shape.width:
            raise DataError(
                f"{where} holds images of {images.shape[2]}x{images.shape[3]} pixels, but a network is to see {shape}"
            )
        if len(images) != len(labels) or not len(images):
            raise DataError(
                f"{where} must hold a label for each image, but holds {len(images)} images and {len(labels)} labels"
            )
        if labels.dtype is not torch.int64 or labels.min() < 0 or labels.max() >= shape.classes:
            raise DataError(
                f"{where} must hold int64 labels from 0 to {shape.classes - 1}, but holds {labels.dtype} "
                f"labels from {labels.min()} to {labels.max()}"
            )


def _normalisation(raw: RawData) -> Normalisation:
    levels = Levels(raw.train.images_NCHW.shape[1])
    for images_NCHW in torch.split(raw.train.images_NCHW, 1024):
        levels.add(images_NCHW.numpy())
    return levels.normalisation()


def _fingerprint(raw: RawData) -> str:
    """The SHA-256 of pixels and labels, as the cache of decoded images computes it."""
    digest = sha256()
    for split in raw.splits().values():
        digest.update(split.images_NCHW.contiguous().numpy().tobytes())
        digest.update(split.labels_N.contiguous().numpy().tobytes())
    return digest.hexdigest()
