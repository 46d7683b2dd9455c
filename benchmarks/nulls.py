"""How often the test of no relation rejects at 5% where there is none: masks that share units, losses of many shapes.

    python benchmarks/nulls.py [--draws 400] [--design one|two]

One draw makes masks, and x and y of independent unit effects (or pairs of units); the test should reject in 5%. `model`
fits main effects to the normal scores of x; `oracle` asks the function that made x for the losses of relabelled masks,
as a stored study does. Designs: 100 masks of C(20, 10), and 1,000 of C(10, 5) x C(10, 5), which is the paper's.
"""

import argparse
from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from trueoracle.analysis import CellMasks
from trueoracle.analysis.cells import X, Y
from trueoracle.analysis.null import Draws, unit_null
from trueoracle.analysis.units import Units

Kept = NDArray[np.bool_]
Made = Callable[[Kept], NDArray[np.float64]]
DRAWS = Draws(first=199, most=199)


def main() -> None:
    """Print the share of rejections, with its standard error, a line a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--design", choices=DESIGNS, default="one")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    rejected = dict.fromkeys(ROWS, 0)
    for _ in range(asked.draws):
        units = DESIGNS[asked.design](rng)
        for name, (shape_x, shape_y, asks) in ROWS.items():
            rejected[name] += p_of(units, SHAPES[shape_x](rng, units), SHAPES[shape_y](rng, units), asks, rng) <= 0.05
    for name, times in rejected.items():
        share = times / asked.draws
        print(f"{name:45} {100 * share:5.1f} % +- {100 * np.sqrt(share * (1 - share) / asked.draws):.1f}")


def p_of(units: Units, x: Made, y: Made, asks: bool, rng: np.random.Generator) -> float:
    """The p of one simulated study."""
    x_n, y_n = x(units.kept_nU), y(units.kept_nU)
    masks = CellMasks(group="simulated", x={X: x_n}, y_name=Y, y_nR=y_n[:, None], loss=x_n)
    found = unit_null(masks, X, units, DRAWS, rng, (lambda _cell, kept_nU: x(kept_nU)) if asks else None)
    return float(found.p)  # type: ignore[union-attr]


def one_site(rng: np.random.Generator) -> Units:
    """100 of C(20, 10)."""
    kept_nU = np.unique(np.argsort(rng.random((200, 20)), axis=1) < 10, axis=0)
    return Units(sizes={"conv": 20}, kept_nU=rng.permutation(kept_nU)[:100])


def two_sites(rng: np.random.Generator) -> Units:
    """1,000 of C(10, 5) x C(10, 5)."""
    half = np.array([[unit in kept for unit in range(10)] for kept in combinations(range(10), 5)])
    ranks = rng.choice(len(half) ** 2, 1000, replace=False)
    return Units(sizes={"a": 10, "b": 10}, kept_nU=np.hstack([half[ranks // len(half)], half[ranks % len(half)]]))


def additive(rng: np.random.Generator, units: Units) -> Made:
    """A sum of unit effects, of deviation 1."""
    effects = rng.normal(size=20)
    scale = (units.kept_nU @ effects).std()
    return lambda kept_nU: kept_nU @ effects / scale


def exponential(rng: np.random.Generator, units: Units) -> Made:
    """Skewed as losses are."""
    inner = additive(rng, units)
    return lambda kept_nU: np.exp(inner(kept_nU))


def ties(rng: np.random.Generator, units: Units) -> Made:
    """Coarse, as accuracies of few images are."""
    inner = additive(rng, units)
    return lambda kept_nU: np.round(inner(kept_nU))


def pairs(rng: np.random.Generator, _units: Units) -> Made:
    """Nothing but pairs of units."""
    effects_UU = np.triu(rng.normal(size=(20, 20)), 1)
    return lambda kept_nU: (((kept_nU - 0.5) @ effects_UU) * (kept_nU - 0.5)).sum(1)


DESIGNS = {"one": one_site, "two": two_sites}
SHAPES = {"additive": additive, "exponential": exponential, "ties": ties, "pairs": pairs}
ROWS = {
    f"x {x}, y {y}, {'oracle' if asks else 'model'}": (x, y, asks)
    for x, y in (
        ("additive", "additive"),
        ("exponential", "exponential"),
        ("exponential", "additive"),
        ("additive", "ties"),
        ("pairs", "pairs"),
    )
    for asks in (False, True)
}


if __name__ == "__main__":
    main()
