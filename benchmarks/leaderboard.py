"""How often the leaderboard errs where the truth is known: intervals that miss it, differences where there are none.

    python benchmarks/leaderboard.py [--draws 1000] [--networks 5] [--criteria 12]

A base network has units of some worth, drawn anew, and cells that keep 2 to 4 of 6 of them, as the cells of a study share their
network. What masks end with is the worth of what they keep, with noise. A criterion knows that worth with an error of its own:

- `same`: all criteria know equally much;
- `twins`: the same in pairs that are nearly one, as L1 and L2 are;
- `spread`: each knows less than the one before, and errs more wildly from network to network.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trueoracle.analysis import Absent, Interval
from trueoracle.analysis.blocks import Block, Blocks, Halves, Scored
from trueoracle.analysis.leaderboard import Leaderboard, leaderboard
from trueoracle.analysis.metric import Better
from trueoracle.analysis.rank import kendall_tau

Values = NDArray[np.float64]
Knows = Callable[[Values, int, np.random.Generator], Values]
UNITS, NOISE = 6, 1.0
CELLS = [np.array([[u in kept for u in range(UNITS)] for kept in combinations(range(UNITS), k)]) for k in (2, 3, 4)]
NONE = Absent(why="not simulated")


def same(worth_U: Values, criteria: int, rng: np.random.Generator) -> Values:
    """Importances (criteria, units) that are right with an error as large as what they are about."""
    return np.asarray(worth_U + rng.normal(size=(criteria, UNITS)))


def twins(worth_U: Values, criteria: int, rng: np.random.Generator) -> Values:
    """Pairs of which the second differs from the first by a twentieth of its error."""
    first = same(worth_U, -(-criteria // 2), rng).repeat(2, axis=0)[:criteria]
    return np.asarray(first + 0.05 * rng.normal(size=first.shape))


def spread(worth_U: Values, criteria: int, rng: np.random.Generator) -> Values:
    """Errors from a fifth of to three times what they are about, twice as large for a third of the networks."""
    error_K = np.geomspace(0.2, 3.0, criteria) * rng.choice([1.0, 2.0], size=criteria, p=[2 / 3, 1 / 3])
    return np.asarray(worth_U + error_K[:, None] * rng.normal(size=(criteria, UNITS)))


KINDS: Mapping[str, Knows] = {"same": same, "twins": twins, "spread": spread}


def simulated(knows: Knows, networks: int, criteria: int, rng: np.random.Generator) -> Leaderboard:
    """The leaderboard of one simulated study."""
    found = []
    for network in range(networks):
        worth_U = rng.normal(size=UNITS)
        importance_KU = knows(worth_U, criteria, rng)
        for number, kept_nU in enumerate(CELLS):
            result_n = kept_nU @ worth_U + NOISE * rng.normal(size=len(kept_nU))
            taus = {
                f"x{k}": kendall_tau(kept_nU @ importance_U, result_n) for k, importance_U in enumerate(importance_KU)
            }
            found.append(_block(number, network, len(kept_nU), taus))
    better = dict.fromkeys(found[0].scores, Better.LOWER)
    return leaderboard(Blocks(found=tuple(found), left_out=(), better=better, notes=()), "final_test_accuracy")


def _block(cell: int, network: int, masks: int, taus: Mapping[str, float]) -> Block:
    return Block(
        study="simulated", cell=f"cell {cell}", case=f"cell {cell}, base {network}", network=str(network), masks=masks, ceiling=0.8,
        halves=Halves(tau=0.5, variance=0.01), bases=frozenset(), chance=NONE, silent={}, excluded=0, searched=0, seconds={},
        scores={x: Scored(agreement=tau, regret=0.0, hit=NONE) for x, tau in taus.items()},
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Shares of simulated studies, or of intervals in them. `differ` is the share where some pair differs that does not in truth;
    it is NaN where all criteria differ in truth. `friedman` is the share where Friedman's test on the same blocks rejects.
    """

    rank: float
    agreement: float
    differ: float
    winner: float
    friedman: float


def errors(kind: str, draws: int, networks: int, criteria: int, truth: int = 4_000, seed: int = 0) -> Errors:
    """How `draws` simulated studies err; what is true is the mean over `truth` networks."""
    rng = np.random.default_rng(seed)
    true = {row.x: row for row in simulated(KINDS[kind], truth, criteria, rng).rows}
    boards = [simulated(KINDS[kind], networks, criteria, rng) for _ in range(draws)]
    rows = [row for board in boards for row in board.rows]
    null = kind != "spread"
    middle = (criteria + 1) / 2
    ranks = [(row.mean_rank.interval, middle if null else true[row.x].mean_rank.mean) for row in rows]
    agreements = [(row.agreement.interval, true[row.x].agreement.mean) for row in rows]
    return Errors(
        rank=float(np.mean([_holds(*one) for one in ranks])),
        agreement=float(np.mean([_holds(*one) for one in agreements])),
        differ=float(np.mean([bool(board.apart) for board in boards])) if null else float("nan"),
        winner=float(np.mean([board.winner is not None for board in boards])) if null else _wrong(boards),
        friedman=float(np.mean([_friedman(board) <= 0.05 for board in boards])) if null else float("nan"),
    )


def _holds(interval: Interval | Absent, truth: float) -> bool:
    return isinstance(interval, Interval) and interval.low <= truth <= interval.high


def _wrong(boards: list[Leaderboard]) -> float:
    """How often one that is not the best wins."""
    return float(np.mean([board.winner not in (None, "x0") for board in boards]))


def _friedman(board: Leaderboard) -> float:
    """Friedman's p over base networks, by each criterion's mean agreement there, after Iman and Davenport (Demšar 2006)."""
    names = [row.x for row in board.rows]
    per_network: dict[str, list[Values]] = {}
    for block in board.blocks:
        per_network.setdefault(block.network, []).append(np.array([block.scores[x].agreement for x in names]))
    rank_NK = stats.rankdata([np.mean(values, axis=0) for values in per_network.values()], axis=1)
    N, K = rank_NK.shape
    chi = 12 * N / (K * (K + 1)) * float(((rank_NK.mean(axis=0) - (K + 1) / 2) ** 2).sum())
    return float(stats.f.sf((N - 1) * chi / (N * (K - 1) - chi), K - 1, (K - 1) * (N - 1)))


def main() -> None:
    """Print the shares, with the standard error of the last three, a line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--criteria", type=int, default=12)
    asked = parser.parse_args()
    print("          rank covered  tau covered  false difference  false winner  Friedman rejects")
    for kind in KINDS:
        found = errors(kind, asked.draws, asked.networks, asked.criteria)
        print(
            f"{kind:8} {found.rank:13.1%} {found.agreement:12.1%} {found.differ:17.1%} {found.winner:13.1%} {found.friedman:17.1%}"
        )


if __name__ == "__main__":
    main()
