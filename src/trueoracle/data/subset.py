"""A part of a dataset for smaller studies: each class in proportion, chosen by a seed."""

from dataclasses import replace

import numpy as np
import torch

from trueoracle.data.split import Dataset, Split
from trueoracle.data.stored import StoredSplit
from trueoracle.words.errors import DataError
from trueoracle.words.examples import Examples


def subset(data: Dataset, train_images: int | None, test_images: int | None, seed: int) -> Dataset:
    """`data` with so many images in each split, in their old order; None leaves a split whole.

    The fingerprint stays that of the whole. `DataError` where a split has fewer images.
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
    labels_N = (
        split.labels_N.cpu().numpy() if isinstance(split, Split | StoredSplit) else np.zeros(len(split), dtype=np.int64)
    )
    return split.take(torch.from_numpy(stratified(labels_N, images, seed)).to(split.device))


def stratified(labels_N: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Places of `images` labels, rising: of each class its share of them, to within one."""
    shuffled = np.random.default_rng(seed).permutation(len(labels_N))
    shuffled = shuffled[np.argsort(labels_N[shuffled], kind="stable")]  # class after class, within each at random
    # Evenly spaced places in that order: every run of the same class gets its share to within one.
    even = (np.arange(images) * len(labels_N)) // images
    return np.sort(shuffled[even])
