"""The table of removal.md: medians of the pruned train loss with removal aligned and released, cell by cell.

    python docs/removal.py base.safetensors --data-dir DATA [--published published_panels]

Every mask of every cell with one site of the study `lenet5-mini-mnist`, on all train images. `--published` names a
folder with the points of the paper's figures, to put their medians beside them.
"""

import argparse
from pathlib import Path

import pandas as pd
from scipy.stats import kendalltau

import trueoracle
from trueoracle.words.progress import Quiet

STUDY = "lenet5-mini-mnist"


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--published", type=Path)
    asked = parser.parse_args()
    figures = published(asked.published) if asked.published else {}
    print("| cell | masks | aligned | released | published | tau, aligned with released |\n|---|---|---|---|---|---|")
    for cell in trueoracle.studies()[STUDY].cells:
        if len(cell.prune) == 1:
            aligned, released = (losses(asked, cell.prune, removal) for removal in ("aligned", "released"))
            tau = kendalltau(aligned, released).statistic
            (site, ratio), *_ = cell.prune.items()
            figure = figures.get((site, ratio))
            print(
                f"| {cell.name} | {len(aligned)} | {aligned.median():.2f} | {released.median():.2f} "
                f"| {'' if figure is None else format(figure, '.2f')} | {tau:.2f} |",
                flush=True,
            )


def losses(asked: argparse.Namespace, prune: dict[str, float], removal: str) -> pd.Series:
    """The pruned train loss of every mask of a cell, in order of rank."""
    study = trueoracle.studies()[STUDY]
    table = trueoracle.pruned_losses(
        study.model, asked.weights, study.data, prune, removal=removal, data_dir=asked.data_dir, progress=Quiet()
    )
    return table["pruned_train_loss"]


def published(folder: Path) -> dict[tuple[str, float], float]:
    """By site and ratio, the median of a figure's points, for the panels of LeNet5-Mini on MNIST."""
    panels = pd.read_csv(folder / "panels.csv")
    panels = panels[(panels["model"] == "lenet5-mini") & (panels["dataset"] == "mnist")].set_index("panel")
    points = pd.read_parquet(folder / "points.parquet")
    medians = points.groupby("panel")["pruned_train_loss"].median()
    return {(row.layers, row.ratio): medians[name] for name, row in panels.iterrows()}


if __name__ == "__main__":
    main()
