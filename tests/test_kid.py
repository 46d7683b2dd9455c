"""The kernel distance of docs/kid.py beside its definition, sum for sum."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from kid import kernel_distance, kid


def test_distance_is_its_definition() -> None:
    """The slow twin: pair after pair, those of a thing with itself left out."""
    chance = np.random.default_rng(0)
    pictures, real = chance.normal(size=(5, 3)), chance.normal(0.5, size=(7, 3))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (sum(a * b for a, b in zip(x, y, strict=True)) / 3 + 1) ** 3

    def within(many: np.ndarray) -> float:
        pairs = [(i, j) for i, j in product(range(len(many)), repeat=2) if i != j]
        return sum(kernel(many[i], many[j]) for i, j in pairs) / len(pairs)

    between = sum(kernel(x, y) for x, y in product(pictures, real)) / (5 * 7)
    assert kernel_distance(pictures, real) == pytest.approx(within(pictures) + within(real) - 2 * between, rel=1e-12)


def test_distance_by_hand() -> None:
    ones, zeros = np.ones((2, 1)), np.zeros((3, 1))
    assert kernel_distance(ones, zeros) == 8 + 1 - 2


def test_distance_is_unbiased_and_its_spread_is_that_of_other_pictures() -> None:
    """Over many draws of one distribution: zero on average, below zero as often as above, as far as the halves say."""
    chance = np.random.default_rng(1)
    found = np.array([kid(*chance.normal(size=(2, 40, 4)), subsets=20, seed=0) for _ in range(200)])
    distance, spread = found.T
    assert abs(distance.mean()) < 4 * distance.std() / 200**0.5
    assert 0.2 < (distance < 0).mean() < 0.8
    assert 0.5 < np.median(spread) / distance.std() < 2.5


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 pictures and 2 images, but got 1 and 3"):
        kernel_distance(np.zeros((1, 2)), np.zeros((3, 2)))
