"""Infinite feature selection: how much features matter among themselves, without labels (Roffo et al., ICCV 2015).

Letters: N examples, F features.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.stats import rankdata
from torch import Tensor

MIXING = 0.5
"""How much a pair's being unlike counts against its spread."""
DECAY = 0.9
"""Of the longest path lengths that still converge."""


def inf_fs(x_NF: Tensor) -> Tensor:
    """(F,), float64, at least 0: the sum over all features g and lengths l of (r A)^l between f and g, r = 0.9 / rho(A).

    A_fg = 0.5 (1 - |Spearman correlation of f and g|) + 0.5 max(deviation of f, of g), the deviations brought to [0, 1]. A
    feature that is always the same correlates with none.
    """
    x = x_NF.double().cpu().numpy()
    deviation_F = x.std(0)
    larger_FF = np.maximum(deviation_F[:, None], deviation_F)
    larger_FF -= larger_FF.min()
    spread_FF = larger_FF / (larger_FF.max() or 1)
    a_FF = MIXING * (1 - np.abs(_spearman(x))) + (1 - MIXING) * spread_FF
    n = len(a_FF)
    radius = float(eigh(a_FF, eigvals_only=True, subset_by_index=[n - 1, n - 1])[0])
    if radius <= 0:
        return torch.zeros(n, dtype=torch.float64)
    paths_F = np.linalg.solve(np.eye(n) - DECAY / radius * a_FF, np.ones(n)) - 1
    return torch.from_numpy(paths_F)


def _spearman(x: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = rankdata(x, axis=0)
    centred = ranks - ranks.mean(0)
    norm_F = np.linalg.norm(centred, axis=0)
    unit = centred / np.where(norm_F > 0, norm_F, 1)
    found: NDArray[np.float64] = unit.T @ unit
    return found
