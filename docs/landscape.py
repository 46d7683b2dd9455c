"""The figures and pictures of landscape.md, from a table that `trueoracle oracle` wrote and the weights it was asked of.

    python docs/landscape.py base.safetensors conv1+conv2+conv3-0.5.parquet --data-dir DATA [--pictures docs]

Prints, in Markdown, where masks stand that were found without looking at all of them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray
from scipy.stats import kendalltau

import trueoracle
from trueoracle.nets import build, find_sites, l1_kept, load_weights
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

MODEL, DATA, SHAPE = "lenet5-mini", "mnist", InputShape(channels=1, height=32, width=32, classes=10)
SPACE = MaskSpace(tuple(SiteChoice(site=site, units=10, pruned=5) for site in ("conv1", "conv2", "conv3")))
A_DRAW, DRAWS, OF_TAU = 1000, 200, 5000
# Okabe and Ito's palette, safe for the colour-blind.
BLUE, MARKS = "#0072B2", ("#000000", "#E69F00", "#009E73", "#CC79A7")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A mask by what found it, with its place among all, 1 for the lowest loss."""

    found_by: str
    rank: int
    loss: float
    accuracy: float
    place: int


def main() -> None:
    """Print the figures, draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--pictures", type=Path, help="the folder to draw into")
    asked = parser.parse_args()
    table = pq.read_table(asked.table, columns=["pruned_train_loss", "pruned_train_accuracy"])
    loss_M, accuracy_M = (column.to_numpy() for column in table.columns)
    assert len(loss_M) == SPACE.count, "a row a mask, in order of rank"
    alone = {choice.site: losses_alone(choice.site, asked) for choice in SPACE.sites}
    masks = {
        "exact oracle": int(loss_M.argmin()),
        "L1 in each layer": l1_mask(asked.weights),
        "oracle of each layer alone": of_digits([int(losses.argmin()) for losses in alone.values()]),
        f"best of {A_DRAW:,} drawn": best_of(loss_M, SPACE.draw(A_DRAW, seed=0)),
    }
    standings = [
        Standing(found_by=name, rank=rank, loss=loss_M[rank], accuracy=accuracy_M[rank], place=place(loss_M, rank))
        for name, rank in masks.items()
    ]
    sum_M = (alone["conv1"][:, None, None] + alone["conv2"][:, None] + alone["conv3"]).ravel()
    report(standings, loss_M, sum_M)
    if asked.pictures:
        draw(asked.pictures, standings, loss_M, accuracy_M, sum_M)


def losses_alone(site: str, asked: argparse.Namespace) -> NDArray[np.float64]:
    """The pruned train loss of every mask of one site alone, by rank."""
    table = trueoracle.pruned_losses(MODEL, asked.weights, DATA, {site: 0.5}, data_dir=asked.data_dir)
    return table["pruned_train_loss"].to_numpy()


def l1_mask(weights: Path) -> int:
    """The rank of the mask that keeps each site's filters of largest mean absolute weight."""
    net = build(MODEL, SHAPE)
    load_weights(net, weights)
    sites = find_sites(net, SHAPE)
    kept = [l1_kept(net, sites.named(choice.site), choice.units - choice.pruned) for choice in SPACE.sites]
    parts = [SiteMask(site=c.site, units=c.units, kept=units) for c, units in zip(SPACE.sites, kept, strict=True)]
    return SPACE.rank(Mask(rank=0, sites=tuple(parts)))


def of_digits(digits: list[int]) -> int:
    """The rank of the mask that has these ranks site by site."""
    rank = 0
    for choice, digit in zip(SPACE.sites, digits, strict=True):
        rank = rank * choice.count + digit
    return rank


def best_of(loss_M: NDArray[np.float64], ranks: tuple[int, ...]) -> int:
    """The rank of lowest loss among these."""
    return ranks[int(loss_M[list(ranks)].argmin())]


def place(loss_M: NDArray[np.float64], rank: int) -> int:
    """How many masks have no higher loss."""
    return int((loss_M <= loss_M[rank]).sum())


def report(standings: list[Standing], loss_M: NDArray[np.float64], sum_M: NDArray[np.float64]) -> None:
    """The figures, in Markdown."""
    print("| mask found by | mask | pruned train loss | accuracy | place | pruned |\n|---|---|---|---|---|---|")
    for s in standings:
        pruned = "; ".join(
            f"{site} {', '.join(map(str, units))}" for site, units in SPACE.unrank(s.rank).pruned.items()
        )
        print(f"| {s.found_by} | {s.rank:,} | {s.loss:.4f} | {s.accuracy:.4f} | {s.place:,} | {pruned} |")
    quantiles = np.quantile(loss_M, (0.01, 0.25, 0.5, 0.75, 0.99))
    print(f"\n{len(loss_M):,} masks; 1%, 25%, 50%, 75%, 99%: {', '.join(f'{q:.3f}' for q in quantiles)}; ", end="")
    print(f"highest {loss_M.max():.3f}; above ln 10: {100 * (loss_M > np.log(10)).mean():.1f}%")
    lowest = np.partition(loss_M, 1)[:2]
    print(f"Lowest two losses: {lowest[0]:.6f} and {lowest[1]:.6f}")
    best = [place(loss_M, best_of(loss_M, SPACE.draw(A_DRAW, seed=seed))) for seed in range(DRAWS)]
    print(
        f"Best of {A_DRAW:,} drawn, {DRAWS} draws: median place {np.median(best):,.0f}, best {min(best):,}, worst {max(best):,}"
    )
    some = list(SPACE.draw(OF_TAU, seed=0))
    tau = kendalltau(sum_M[some], loss_M[some]).statistic
    print(f"Kendall's tau of the sum of the losses layer by layer with the joint loss, {OF_TAU:,} masks: {tau:.3f}")


def draw(
    folder: Path,
    standings: list[Standing],
    loss_M: NDArray[np.float64],
    accuracy_M: NDArray[np.float64],
    sum_M: NDArray[np.float64],
) -> None:
    """The histogram, and all masks as densities against accuracy and against what the layers lose alone."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
    axes.hist(loss_M, bins=200, color=BLUE)
    for s, colour in zip(standings, MARKS, strict=True):
        label = f"{s.found_by}: {s.loss:.3f}, place {s.place:,}"
        axes.axvline(s.loss, color=colour, linewidth=1.5, label=label)
    axes.axvline(np.log(10), color="grey", linestyle=":", label="guessing: ln 10")
    axes.set(xlabel="pruned train loss (nats)", ylabel="masks")
    axes.legend(frameon=False)
    figure.savefig(folder / "landscape-histogram.png", dpi=120)
    figure, both = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    density(both[0], loss_M, accuracy_M, standings, [s.accuracy for s in standings])
    both[0].set(xlabel="pruned train loss (nats)", ylabel="pruned train accuracy")
    density(both[1], loss_M, sum_M, standings, [sum_M[s.rank] for s in standings])
    both[1].set(xlabel="pruned train loss (nats)", ylabel="sum of the layers' losses, pruned alone")
    both[1].legend(frameon=False, fontsize=7, loc="upper right")
    figure.savefig(folder / "landscape-scatter.png", dpi=120)


def density(
    axes: Axes, x_M: NDArray[np.float64], y_M: NDArray[np.float64], standings: list[Standing], heights: list[float]
) -> None:
    """How many masks there are at each place, and where those of `standings` are."""
    image = axes.hist2d(x_M, y_M, bins=200, norm=LogNorm(), cmap="Blues", rasterized=True)[3]
    axes.figure.colorbar(image, ax=axes, label="masks")
    for s, height, colour in zip(standings, heights, MARKS, strict=True):
        axes.plot(
            s.loss, height, "o", color=colour, markersize=6, markeredgecolor="white", label=s.found_by, clip_on=False
        )


if __name__ == "__main__":
    main()
