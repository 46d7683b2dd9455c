"""What the statistics of 40,000 points cost, in core-seconds of one process, against SciPy's tau-b.

    python benchmarks/analysis.py [POINTS]

The permutation test is that of C(18, 9) = 48,620 masks, the smallest exhaustive space of half of a site's units with so many.
"""

import sys
from collections.abc import Callable
from itertools import combinations
from time import process_time

import numpy as np
from scipy import stats

from trueoracle.analysis import CellMasks
from trueoracle.analysis.null import Draws, unit_null
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.resample import draws, resample
from trueoracle.analysis.units import Units


def main(points: int) -> None:
    """Print a line a statistic."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=points)
    y = np.round(x + rng.normal(size=points), 3)
    kendall_tau(x[:10], y[:10])
    resample(x[:20], y[:20], 99, rng)
    kept = np.array([[unit in chosen for unit in range(18)] for chosen in combinations(range(18), 9)])
    units = Units(sizes={"conv": 18}, kept_nU=kept)
    loss, accuracy = kept @ rng.normal(size=18), kept @ rng.normal(size=18)
    cell = CellMasks(group="", x={"loss": loss}, y_name="accuracy", y_nR=accuracy[:, None])
    unit_null(cell, "loss", units, Draws(first=2, most=2), rng)
    ours, scipys = spent(lambda: kendall_tau(x, y), 5), spent(lambda: stats.kendalltau(x, y), 5)
    print(f"tau-b of {points:,} points: {1e3 * ours:.1f} ms, SciPy {1e3 * scipys:.1f} ms, ", end="")
    print(f"difference {abs(kendall_tau(x, y) - stats.kendalltau(x, y).statistic):.1e}")
    number = draws(points)
    print(f"bootstrap of tau, rho and r, {number:,} resamples: {spent(lambda: resample(x, y, number, rng)):.1f} s")
    number = draws(len(kept))
    cost = spent(lambda: unit_null(cell, "loss", units, Draws(first=number, most=number), rng))
    print(f"permutation of unit labels, {len(kept):,} masks, {number:,} relabellings: {cost:.1f} s")


def spent(what: Callable[[], object], least_of: int = 1) -> float:
    """Core-seconds of a call, least of several."""
    found = []
    for _ in range(least_of):
        begin = process_time()
        what()
        found.append(process_time() - begin)
    return min(found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000)
