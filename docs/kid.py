"""The kernel distance between pictures and real images (KID, Binkowski et al., arXiv 1801.01401), on any features.

Letters: N pictures, M real images, D features.
"""

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def kernel_distance(pictures_ND: Features, real_MD: Features) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy under the kernel (x.y / D + 1)^3.

    It may lie below zero where both are of one distribution. `ValueError` for fewer than two of either.
    """
    count, of_real = len(pictures_ND), len(real_MD)
    if min(count, of_real) < 2:
        raise ValueError(f"the distance needs at least 2 pictures and 2 images, but got {count} and {of_real}")
    within = _kernel(pictures_ND, pictures_ND)
    within_real = _kernel(real_MD, real_MD)
    return float(
        (within.sum() - np.trace(within)) / (count * (count - 1))
        + (within_real.sum() - np.trace(within_real)) / (of_real * (of_real - 1))
        - 2 * _kernel(pictures_ND, real_MD).mean()
    )


def kid(pictures_ND: Features, real_MD: Features, subsets: int, seed: int) -> tuple[float, float]:
    """The distance, and the deviation of that between halves: of `subsets` draws of half of the pictures and images each."""
    chance = np.random.default_rng(seed)
    of_halves = [kernel_distance(_half(pictures_ND, chance), _half(real_MD, chance)) for _ in range(subsets)]
    return kernel_distance(pictures_ND, real_MD), float(np.std(of_halves, ddof=1))


def _kernel(x_ND: Features, y_MD: Features) -> Features:
    return (x_ND @ y_MD.T / x_ND.shape[1] + 1) ** 3


def _half(x_ND: Features, chance: np.random.Generator) -> Features:
    return x_ND[chance.permutation(len(x_ND))[: len(x_ND) // 2]]
