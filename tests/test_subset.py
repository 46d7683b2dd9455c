"""A part of a dataset: each class in proportion, the same for the same seed."""

import numpy as np
import pytest
import torch

from trueoracle.data import load_dataset, subset
from trueoracle.data.subset import stratified
from trueoracle.words.progress import Quiet


@pytest.mark.parametrize("images", [4, 10, 77, 100])
def test_each_class_has_its_share_to_within_one(images: int) -> None:
    labels = np.repeat([0, 1, 2, 3], [10, 20, 30, 40])
    chosen = stratified(labels, images, seed=1)
    assert len(set(chosen.tolist())) == images
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen], minlength=4)
    assert (np.abs(counts - images * np.array([0.1, 0.2, 0.3, 0.4])) < 1).all()


def test_the_seed_alone_decides_which_images() -> None:
    labels = np.arange(1000) % 10
    first, again, other = (stratified(labels, 50, seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_split_that_is_not_named_stays_whole() -> None:
    data = load_dataset("digits", None, torch.device("cpu"), Quiet())
    part = subset(data, 100, None, seed=3)
    assert (len(part.train), len(part.test)) == (100, 360)
    assert part.fingerprint == data.fingerprint
    assert np.bincount(part.train.labels_N.numpy()).min() >= 9
    whole = {image.numpy().tobytes() for image in data.train.images_NCHW}
    assert all(image.numpy().tobytes() in whole for image in part.train.images_NCHW)
