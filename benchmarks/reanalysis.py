"""The tables of docs/reanalysis.md, from the published points.

    python benchmarks/reanalysis.py FOLDER

`FOLDER` holds `points.parquet` (panel, pruned_train_loss, final_test_accuracy) and `panels.csv` (panel, dataset, layers, ratio,
masks, printed_kendall_tau, printed_anomaly_ratio).
"""

import sys
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd

from trueoracle.analysis import Absent, CellAnalysis, Interval, analyze_table
from trueoracle.analysis.rank import kendall_tau

CLASSES = {"cifar100": 100}
UNITS = {"lenet5-mini": 10, "lenet5-mini-d6": 10, "lenet5-mini-d8": 10, "lenet5-mini-w20": 20, "lenet5-mini-w40": 40}


def main(folder: Path) -> None:
    """Print all tables as Markdown."""
    panels = pd.read_csv(folder / "panels.csv").set_index("panel")
    points = pd.read_parquet(folder / "points.parquet")
    classes = {str(panel): CLASSES.get(row.dataset, 10) for panel, row in panels.iterrows()}
    found = {one.group: one for one in analyze_table(points, group="panel", classes_of=classes)}
    correlations(panels, found)
    choices(found)
    alignment(panels, found)


def correlations(panels: pd.DataFrame, found: dict[str, CellAnalysis]) -> None:
    """Tau as printed and recomputed, with what the printed figures do not say."""
    print(
        "\n| panel | masks | tau printed | tau | 95% interval | naive p | p of \\|tau\\| >= 0.1 | collapsed | verdict |"
    )
    print("|---|--:|--:|--:|---|--:|--:|--:|---|")
    for panel, row in panels.iterrows():
        one = found[str(panel)]
        print(
            f"| {panel} | {one.n} | {row.printed_kendall_tau:.2f} | {one.kendall_tau:.3f} "
            f"| {_interval(one.association.kendall_interval)} | {one.decision.zero_p_holm:.1g} | {one.decision.equivalence_p_holm:.2g} "
            f"| {100 * one.regime.collapsed_share:.0f}% | {one.verdict.value.split(':')[0]} |"
        )
    same = sum(f"{found[str(p)].kendall_tau:.2f}" == f"{row.printed_kendall_tau:.2f}" for p, row in panels.iterrows())
    print(f"\n{same} of {len(panels)} printed taus reproduced; p-values corrected over {len(panels)} panels (Holm)")


def choices(found: dict[str, CellAnalysis]) -> None:
    """The anomaly ratio with each of the lowest-loss masks in the oracle's place; what the oracle mask is worth."""
    print(
        "\n| panel | better than the oracle | ... mean of the 20 lowest | ... from | ... to | regret, points | precision@20 | tau in the lowest tenth |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for one in found.values():
        at = one.choice.at[-1]
        tenth = one.choice.tenth_tau
        inside = "-" if isinstance(tenth, Absent) else f"{tenth:.2f} ({_interval(one.choice.tenth_interval)})"
        print(
            f"| {one.group} | {100 * one.anomaly_ratio:.1f}% | {100 * at.anomaly_ratio:.1f}% | {100 * at.anomaly_ratio_low:.1f}% "
            f"| {100 * at.anomaly_ratio_high:.1f}% | {100 * one.choice.regret:.2f} | {at.precision:.2f} | {inside} |"
        )


def alignment(panels: pd.DataFrame, found: dict[str, CellAnalysis]) -> None:
    """How large |tau| gets by chance if loss and accuracy are sums of independent unit effects: the worst case."""
    print("\n| panel | units | 95% of chance \\|tau\\| at worst | printed tau |")
    print("|---|--:|--:|--:|")
    for panel, row in panels.iterrows():
        if row.model not in UNITS:
            continue
        sites = row.layers.count("+") + 1
        reach = reached_by_chance(UNITS[row.model], sites, row.ratio, found[str(panel)].n)
        mark = " *" if abs(row.printed_kendall_tau) <= reach else ""
        print(f"| {panel} | {sites} x {UNITS[row.model]} | {reach:.2f} | {row.printed_kendall_tau:.2f}{mark} |")
    print("\n* not beyond what chance reaches at worst")


def reached_by_chance(units: int, sites: int, ratio: float, masks: int, studies: int = 1_000) -> float:
    """The 95th percentile of |tau| over simulated studies of this shape without a relation."""
    rng, keeps = np.random.default_rng(0), units - int(units * ratio)
    taus = []
    for _ in range(studies):
        if sites == 1 and comb(units, keeps) == masks:
            kept = np.array([[unit in chosen for unit in range(units)] for chosen in combinations(range(units), keeps)])
        else:
            drawn = [np.argsort(rng.random((masks, units)), axis=1) < keeps for _ in range(sites)]
            kept = np.concatenate(drawn, axis=1)
        taus.append(abs(kendall_tau(kept @ rng.normal(size=units * sites), kept @ rng.normal(size=units * sites))))
    return float(np.quantile(taus, 0.95))


def _interval(found: Interval | Absent) -> str:
    return "-" if isinstance(found, Absent) else f"{found.low:.2f} to {found.high:.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
