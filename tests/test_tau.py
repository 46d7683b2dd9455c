"""Kendall's tau as it is compiled is that of its slow twin, plain Python, and is kept where all compiled code is."""

import sys
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest

from trueoracle.analysis import compiled, tau
from trueoracle.analysis.rank import dense_rank

N = 12


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(3)


def points(numbers: np.random.Generator) -> tuple[tau.Floats, tau.Floats, tau.Ints, tau.Ints]:
    """x in order, y, both with ties, and what `tau` asks of them."""
    x, y = np.sort(numbers.integers(0, 6, N)).astype(float), numbers.integers(0, 5, N).astype(float)
    return x, y, dense_rank(x)[0], dense_rank(y)[0] + 1


def test_pairs_are_counted_as_by_the_slow_twin_and_by_hand(numbers: np.random.Generator) -> None:
    x, y, x_group, y_rank = points(numbers)
    weight, tree = numbers.integers(0, 3, N), np.zeros(N + 1, np.int64)
    by_hand = sum(
        weight[a] * weight[b] * np.sign(x[b] - x[a]) * np.sign(y[b] - y[a]) for a, b in combinations(range(N), 2)
    )
    assert compiled.concordance(x_group, y_rank, weight, tree) == by_hand
    assert tau.concordance(x_group, y_rank, weight, tree) == by_hand
    assert compiled.correlation(x, y, weight) == pytest.approx(tau.correlation(x, y, weight), rel=1e-14)


def test_resamples_are_those_of_the_slow_twin(numbers: np.random.Generator) -> None:
    x, y, x_group, y_rank = points(numbers)
    drawn_Bn = numbers.integers(0, N, (20, N))
    drawn_Bn[0] = 0  # constant: no correlation
    found, right = (one.resampled(x, y, x_group, y_rank, drawn_Bn) for one in (compiled, tau))
    np.testing.assert_allclose(found, right, rtol=1e-14)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


def test_rows_are_held_against_x_and_each_other_as_by_the_slow_twin(numbers: np.random.Generator) -> None:
    _, _, x_group, _ = points(numbers)
    a_Bn, b_Bn = numbers.integers(0, 6, (2, 20, N)).astype(float)
    for rows_Bn in (b_Bn, np.asfortranarray(b_Bn)):
        np.testing.assert_allclose(compiled.against(x_group, rows_Bn), tau.against(x_group, rows_Bn), rtol=1e-14)
        np.testing.assert_allclose(compiled.paired(a_Bn, rows_Bn), tau.paired(a_Bn, rows_Bn), rtol=1e-14)


def test_relabelled_masks_are_those_of_the_slow_twin(numbers: np.random.Generator) -> None:
    """Two of four units of one site: six masks, in the order of their ranks."""
    kept_nU = np.array(
        [[u in pair for u in range(4)] for pair in sorted(combinations(range(4), 2), key=lambda p: p[::-1])]
    )
    choose = np.array([[comb(n, k) for k in range(3)] for n in range(5)])
    label_BU = np.array([numbers.permutation(4) for _ in range(20)])
    x_group, y_rank = np.arange(6), numbers.permutation(6) + 1
    words = (x_group, y_rank, kept_nU, np.zeros(4, np.int64), choose, np.arange(6), label_BU)
    np.testing.assert_array_equal(compiled.relabelled(*words), tau.relabelled(*words))
    same = tau.relabelled(*words[:-1], np.arange(4)[None])
    assert same[0] == compiled.concordance(x_group, y_rank, np.ones(6, np.int64), np.zeros(7, np.int64))


def test_compiled_code_is_kept_with_the_kernels() -> None:
    assert compiled.concordance.signatures
    (module,) = [one for name, one in sys.modules.items() if name.startswith("trueoracle_tau_")]
    folder = Path(module.__file__ or "").parent
    assert folder.name == "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list((folder / "__pycache__").glob(f"{module.__name__}.concordance*.nbi"))
