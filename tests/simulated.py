"""Simulated studies whose truth is known: what x and y are made of is written here."""

import json
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis import CellMasks

X, Y = "pruned_train_loss", "final_test_accuracy"


def all_kept(units: int, keeps: int) -> NDArray[np.bool_]:
    """Every way to keep so many units of one site, a row each."""
    return np.array([[unit in kept for unit in range(units)] for kept in combinations(range(units), keeps)])


def cell(
    x: NDArray[np.float64], y_nR: NDArray[np.float64], kept_nU: NDArray[np.bool_] | None = None, group: str = "cell"
) -> CellMasks:
    """A cell of one site; lower x promises better y."""
    pruned = None
    if kept_nU is not None:
        pruned = tuple(json.dumps({"conv": np.flatnonzero(~kept).tolist()}) for kept in kept_nU)
    units = None if kept_nU is None else {"conv": kept_nU.shape[1]}
    y_nR = y_nR[:, None] if y_nR.ndim == 1 else y_nR
    return CellMasks(group=group, x={X: x}, y_name=Y, y_nR=y_nR, pruned=pruned, units=units, loss=x)


def drawn_kept(units: int, number: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Distinct draws that keep half of the units of one site."""
    drawn = np.argsort(rng.random((2 * number, units)), axis=1) < units // 2
    return np.unique(drawn, axis=0)[rng.permutation(len(np.unique(drawn, axis=0)))[:number]]
