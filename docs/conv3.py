"""The table and the picture of lenet5-mini-mnist-conv3.md: one cell, removed in two ways, beside the paper's figure.

    python docs/conv3.py --aligned sqlite:///aligned.db --released sqlite:///released.db --published published_panels -o conv3.png

The stores hold the two finished studies; `--published` names a folder with the points of the paper's figures.
"""

import argparse
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("agg")
from matplotlib import pyplot as plt

import trueoracle
from trueoracle.analysis import CellAnalysis, Interval, analyze_table

STUDY, PANEL = "lenet5-mini-mnist-conv3-0.2", "lenet5mini-mnist-conv3-0.2"
X, Y = "pruned_train_loss", "final_test_accuracy"


def main() -> None:
    """Print the table, in Markdown, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aligned", required=True)
    parser.add_argument("--released", required=True)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    points = pd.read_parquet(asked.published / "points.parquet")
    points = points[points["panel"] == PANEL]
    studies = {way: trueoracle.Study.stored(STUDY, store=getattr(asked, way)) for way in ("aligned", "released")}
    found = {
        **{f"{way}, {one.spec.repeats} x retrained": (means(one), one.analyze()[0]) for way, one in studies.items()},
        "the paper's figure": (points, analyze_table(points, X, Y)[0]),
    }
    print("| removal | masks | tau | 95% interval | better than the oracle mask | median pruned loss |")
    print("|---|---|---|---|---|---|")
    for title, (table, cell) in found.items():
        print(row(title, table, cell))
    draw(found, asked.output)


def means(study: trueoracle.Study) -> pd.DataFrame:
    """A row a mask, the mean over its repeats."""
    return study.trials().groupby("mask")[[X, Y]].mean()


def row(title: str, table: pd.DataFrame, cell: CellAnalysis) -> str:
    """A line of the table."""
    bounds = cell.association.kendall_interval
    interval = f"{bounds.low:.2f} to {bounds.high:.2f}" if isinstance(bounds, Interval) else bounds.why
    return (
        f"| {title} | {cell.n} | {cell.kendall_tau:.2f} | {interval} | {100 * cell.anomaly_ratio:.1f}% "
        f"| {table[X].median():.2f} |"
    )


def draw(found: dict[str, tuple[pd.DataFrame, CellAnalysis]], output: Path) -> None:
    """The scatters side by side; the oracle mask is the star."""
    figure, panels = plt.subplots(1, len(found), figsize=(12, 4), sharey=True, layout="constrained")
    for panel, (title, (table, cell)) in zip(panels, found.items(), strict=True):
        best = table.loc[table[X].idxmin()]
        panel.scatter(table[X], 100 * table[Y], s=18, color="#4477aa")
        panel.scatter(best[X], 100 * best[Y], s=140, marker="*", color="#cc3311", zorder=3)
        panel.set(title=f"{title}\ntau {cell.kendall_tau:.2f}", xlabel="pruned train loss, nats")
    panels[0].set_ylabel("final test accuracy, %")
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
