"""A part of a dataset for smaller studies: each class in proportion, chosen by a seed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from trueoracle.data.split import Dataset, Split
from trueoracle.data.stored import StoredSplit
from trueoracle.words.errors import DataError
from trueoracle.words.examples import Examples


def subset(data: Dataset, train_images: int | None, test_images: int | None, seed: int) -> Dataset:
    """`data` with so many images in each split, in their old order; None leaves a split whole.

    A validation split of its own is left whole. The fingerprint stays that of the whole. `DataError` where a split has
    fewer images.
    """
    return replace(
        data,
        train=_part(data.train, train_images, "train_images", data, seed),
        test=_part(data.test, test_images, "test_images", data, seed + 1),
    )


def _part(split: Examples, images: int | None, key: str, data: Dataset, seed: int) -> Examples:
    if images is None:
        return split
    if images > len(split):
        raise DataError(f"`{key}` must be at most {len(split)}, all that `{data.name}` has, but got {images}")
    return split.take(torch.from_numpy(stratified(_labels(split), images, seed)).to(split.device))


def held_out(data: Dataset, images: int | float, seed: int) -> Dataset:
    """`data` with so many of its train images, or a share of them below 1, taken out of train for validation instead.

    Each class gives its part; a validation split that the data had is left out. `DataError` where nothing would be left
    to train on or to validate with.
    """
    whole = len(data.train)
    count = int(whole * Fraction(str(images))) if images < 1 else int(images)
    if not 1 <= count < whole:
        raise DataError(
            f"`validation_images` must leave some of the {whole} train images of `{data.name}` on either side, but "
            f"{images} takes {count}"
        )
    chosen = stratified(_labels(data.train), count, seed)
    rest = np.setdiff1d(np.arange(whole), chosen)
    train, validation = (data.train.take(torch.from_numpy(places).to(data.train.device)) for places in (rest, chosen))
    return replace(data, train=train, validation=validation)


def _labels(split: Examples) -> np.ndarray:
    """The classes of images; one class for examples that have none."""
    if isinstance(split, Split | StoredSplit):
        return split.labels_N.cpu().numpy()
    return np.zeros(len(split), dtype=np.int64)


def stratified(labels_N: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Places of `images` labels, rising: of each class its share of them, to within one."""
    shuffled = np.random.default_rng(seed).permutation(len(labels_N))
    shuffled = shuffled[np.argsort(labels_N[shuffled], kind="stable")]  # class after class, within each at random
    # Evenly spaced places in that order: every run of the same class gets its share to within one.
    even = (np.arange(images) * len(labels_N)) // images
    return np.sort(shuffled[even])
