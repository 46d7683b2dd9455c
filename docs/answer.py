"""The figures of docs/answer.md, from the table that comes with trueoracle.

    python docs/answer.py [--table FOLDER] [--figure docs/answer.svg]

Kendall's tau is between a mask's pruned train loss and its final test accuracy (the mean over its repeats), positive where the mask of lower loss ends better. Each base
network is one case; means and Student's 95% intervals are over them.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr, ttest_ind

from trueoracle.analysis import Absent, Leaderboard, compare
from trueoracle.analysis.leaderboard import Over
from trueoracle.analysis.pooled import over_networks
from trueoracle.store import Store
from trueoracle.truth import TruthTable, restore
from trueoracle.words.errors import TableError
from trueoracle.words.progress import bars

X, Y = "pruned_train_loss", "final_test_accuracy"
GUESSING = math.log(10)
DRAWS = 20  # of fewer test images, where tasks are judged on equally many


def masks_of(table: TruthTable, study: str) -> pd.DataFrame:
    """A row a mask of a base network whose every planned repeat finished: its figures before, and means after."""
    trials = table.trials(study)
    trials = trials[trials["outcome"] == "finished"]
    after = [Y, "final_validation_accuracy", "final_train_loss"]
    grouped = trials.groupby(["cell", "base", "mask"], sort=False)
    found = grouped[[X, *after]].mean().join(grouped["searched"].first()).join(grouped.size().rename("repeats"))
    return found.reset_index()


def whole_cells(masks: pd.DataFrame, table: TruthTable, study: str) -> pd.DataFrame:
    """The masks of cells, on each network, that are run whole: a part of a cell in order of rank is no sample of it."""
    planned = table.frame(study, "cells").set_index(["cell", "base"])["masks"]
    repeats = int(table.facts(study).spec["repeats"])
    done = masks[masks["repeats"] == repeats].groupby(["cell", "base"]).size()
    whole = done.index[done.to_numpy() == planned.loc[done.index].to_numpy()]
    return masks.set_index(["cell", "base"]).loc[whole].reset_index()


def tau(x: Iterable[float], y: Iterable[float]) -> float:
    """Positive where lower x goes with higher y."""
    return float(kendalltau(-np.asarray(list(x)), np.asarray(list(y)).round(6)).statistic)


def over(values: Sequence[float], form: str = ".2f", bound: float = math.inf) -> str:
    """Mean and interval over base networks, cut at `bound` on both sides."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-"
    interval = over_networks(known, -bound, bound)
    ends = "" if isinstance(interval, Absent) else f" ({interval.low:{form}}, {interval.high:{form}})"
    return f"{np.mean(known):{form}}{ends}"


def by_network(masks: pd.DataFrame, cell: str) -> list[pd.DataFrame]:
    """The masks of a cell, a frame a base network."""
    own = masks[masks["cell"] == cell]
    return [part for _, part in own.groupby("base")]


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """As Markdown."""
    print("\n| " + " | ".join(headings) + " |\n|" + "---|" + "--:|" * (len(headings) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def board_of(table: TruthTable, study: str) -> Leaderboard:
    """All predictors of the table on the study, by the same code as `trueoracle criteria`."""
    with TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/s.db", create=True)
        return compare(store, [restore(table, study, store, bars(), curves=False)], progress=bars())


def cell_by_cell(masks: pd.DataFrame, board: Leaderboard) -> pd.DataFrame:
    """Does the pruned train loss predict? Returns a row a cell and base network."""
    ceilings = {(b.cell, int(b.network.split()[0])): b.ceiling for b in board.blocks}
    facts = []
    for cell in dict.fromkeys(masks["cell"]):
        for part in by_network(masks, cell):
            base = int(part["base"].iloc[0])
            top = ceilings.get((cell, base), math.nan)
            chosen = part.loc[part[X].idxmin()]
            best = part.loc[part["final_validation_accuracy"].idxmax()]
            facts.append({
                "cell": cell, "base": base, "masks": len(part), "tau": tau(part[X], part[Y]), "ceiling": math.nan if isinstance(top, Absent) else top,
                "regret": 100 * (best[Y] - chosen[Y]), "spread": 100 * part[Y].std(), "accuracy": 100 * part[Y].mean(),
                "better": 100 * (part[Y] > chosen[Y]).mean(), "collapsed": 100 * (part[X] > GUESSING).mean(),
            })  # fmt: skip
    found = pd.DataFrame(facts)
    rows = []
    for cell, own in found.groupby("cell", sort=False):
        rows.append([str(cell), f"{own['masks'].iloc[0]}", f"{own['accuracy'].mean():.1f}", f"{own['collapsed'].mean():.0f}%", over(own["tau"].tolist(), bound=1),
                     f"{own['ceiling'].mean():.2f}" if own["ceiling"].notna().any() else "tells nothing", over(own["regret"].tolist(), ".1f"), f"{own['better'].mean():.0f}%"])  # fmt: skip
    print_table(
        [
            "cell",
            "masks",
            "accuracy",
            "worse than guessing",
            "tau (95%)",
            "ceiling",
            "regret (95%)",
            "better than the oracle mask",
        ],
        rows,
    )
    return found


def aligned_and_released(aligned: pd.DataFrame, released: pd.DataFrame) -> None:
    """The same masks of the same networks, removed in two ways and retrained in the same orders."""
    rows = []
    of_network: dict[int, list[tuple[float, float, float]]] = {}
    shared = set(zip(aligned["cell"], aligned["base"], strict=True)) & set(
        zip(released["cell"], released["base"], strict=True)
    )
    for cell in dict.fromkeys(cell for cell in aligned["cell"] if any(cell == one for one, _ in shared)):
        bases = sorted(base for one, base in shared if one == cell)
        pairs = [(part(aligned, cell, base), part(released, cell, base)) for base in bases]
        first, second = ([tau(one[X], one[Y]) for one in side] for side in zip(*pairs, strict=True))
        accuracy = [100 * (one[Y].mean() - two[Y].mean()) for one, two in pairs]
        worth = [tau(-one.set_index("mask")[Y], two.set_index("mask")[Y].loc[one["mask"]]) for one, two in pairs]
        for of_base in zip(bases, first, second, accuracy, strict=True):
            of_network.setdefault(of_base[0], []).append(of_base[1:])
        rows.append([cell, str(len(bases)), over(first, bound=1), over(second, bound=1), over([a - b for a, b in zip(first, second, strict=True)], bound=2),
                     over(accuracy, ".1f"), f"{np.mean(worth):.2f}", f"{np.mean([100 * (two[X] > GUESSING).mean() for _, two in pairs]):.0f}%"])  # fmt: skip
    print_table(
        [
            "cell",
            "networks",
            "tau aligned",
            "tau released",
            "difference",
            "accuracy lost by `released`",
            "tau of the two accuracies",
            "released: worse than guessing",
        ],
        rows,
    )
    means = np.array([np.mean(values, axis=0) for values in of_network.values()])
    print(f"\nmean over cells, {len(means)} networks: aligned {over(means[:, 0].tolist(), bound=1)}, released {over(means[:, 1].tolist(), bound=1)}, "
          f"difference {over((means[:, 0] - means[:, 1]).tolist(), bound=2)}, accuracy lost {over(means[:, 2].tolist(), '.1f')} points")  # fmt: skip


def part(masks: pd.DataFrame, cell: str, base: int) -> pd.DataFrame:
    """The masks of a cell on one base network."""
    return masks[(masks["cell"] == cell) & (masks["base"] == base)]


def drawn_and_found(masks: pd.DataFrame) -> None:
    """The best of many draws against what a search finds, judged after retraining."""
    rows = []
    for cell in dict.fromkeys(masks["cell"]):
        facts: dict[str, list[float]] = {name: [] for name in ("drawn", "found", "low", "high", "gain", "place")}
        for own in by_network(masks, cell):
            drawn, found = own[~own["searched"]], own[own["searched"]]
            if not len(found):
                continue
            best_drawn, best_found = drawn.loc[drawn[X].idxmin()], found.loc[found[X].idxmin()]
            facts["drawn"].append(tau(drawn[X], drawn[Y]))
            facts["found"].append(tau(found[X], found[Y]))
            facts["low"].append(best_drawn[X])
            facts["high"].append(best_found[X])
            facts["gain"].append(100 * (best_found[Y] - best_drawn[Y]))
            facts["place"].append(100 * (drawn[Y] > best_found[Y]).mean())
        rows.append(
            [
                cell,
                over(facts["drawn"], bound=1),
                over(facts["found"], bound=1),
                over(facts["low"], ".3f"),
                over(facts["high"], ".3f"),
                over(facts["gain"], ".1f"),
                over(facts["place"], ".0f"),
            ]
        )
    print_table(
        [
            "cell",
            "tau of the drawn",
            "tau among the found",
            "lowest loss drawn",
            "lowest loss found",
            "found oracle ends better by (points)",
            "drawn masks that end better (%)",
        ],
        rows,
    )


def ceilings(table: TruthTable, study: str, cell: str) -> list[float]:
    """Of the networks on which the cell tells something; none where no cell of the study does."""
    try:
        blocks = board_of(table, study).blocks
    except TableError:
        return []
    of_network = {block.network.split()[0]: block.ceiling for block in blocks if block.cell == cell}
    return [top for top in of_network.values() if not isinstance(top, Absent)]


def harder(table: TruthTable, studies: Sequence[str], cell: str) -> None:
    """Wider, deeper: one cell of networks that differ in size."""
    rows = []
    for study in studies:
        if study not in table.manifest.studies:
            continue
        masks = whole_cells(masks_of(table, study), table, study)
        parts = by_network(masks, cell)
        if not parts:
            continue
        known = ceilings(table, study, cell)
        dense = table.frame(study, "networks")["test_accuracy"]
        rows.append([study, str(len(parts)), f"{100 * dense.mean():.1f}", f"{100 * np.mean([one[Y].mean() for one in parts]):.1f}", f"{100 * np.mean([one[Y].std() for one in parts]):.2f}",
                     over([tau(one[X], one[Y]) for one in parts], bound=1), f"{np.mean(known):.2f}" if known else "tells nothing", f"{np.mean([100 * (one[X] > GUESSING).mean() for one in parts]):.0f}%"])  # fmt: skip
    print_table(
        [
            "study",
            "networks",
            "dense accuracy",
            "accuracy after",
            "deviation over masks",
            "tau (95%)",
            "ceiling",
            "worse than guessing",
        ],
        rows,
    )


def equally_judged(table: TruthTable, easier: str, harder: str) -> None:
    """Whether a harder task weakens the relation: the easier one judged on as many test images as the harder one has, too."""
    given = table.frame(easier, "answers")
    given = given[given["split"] == "test"]
    right_TI = np.stack(given["right"].to_list())
    images = len(table.frame(harder, "answers").query("split == 'test'")["right"].iloc[0])
    draw = np.random.default_rng(0)
    fewer = [draw.permutation(right_TI.shape[1])[:images] for _ in range(DRAWS)]
    key = ["base", "cell", "mask"]
    easy = whole_cells(masks_of(table, easier), table, easier)
    judged = [given[key].assign(**{Y: right_TI[:, chosen].mean(1)}) for chosen in fewer]
    alike = [easy.drop(columns=Y).merge(of_draw.groupby(key, as_index=False)[Y].mean(), on=key) for of_draw in judged]
    hard = whole_cells(masks_of(table, harder), table, harder)
    taus = [taus_of(easy), sum(map(taus_of, alike)) / DRAWS, taus_of(hard)]
    cells = list(dict.fromkeys(hard["cell"]))
    rows = [[cell, *(over(of[cell].tolist(), bound=1) for of in taus)] for cell in cells]
    rows.append(["mean over cells", *(over(of.mean(axis=1).tolist(), bound=1) for of in taus)])
    heading = ["cell", f"{easier}, all {right_TI.shape[1]:,} test images", f"{easier}, {images:,} of them", harder]
    print_table(heading, rows)
    apart = ttest_ind(taus[2].mean(axis=1), taus[1].mean(axis=1), equal_var=False)
    ends = apart.confidence_interval()
    less = taus[2].mean(axis=1).mean() - taus[1].mean(axis=1).mean()
    print(f"\n{harder} less {easier} on as many images: {less:+.2f} ({ends.low:.2f}, {ends.high:.2f})")


def taus_of(masks: pd.DataFrame) -> pd.DataFrame:
    """A row a base network, a column a cell."""
    of_cell = {key: tau(own[X], own[Y]) for key, own in masks.groupby(["base", "cell"])}
    return pd.Series(of_cell).unstack()


def causes(found: pd.DataFrame) -> None:
    """What goes with tau over cells, each cell the mean of its networks."""
    cells = found.groupby("cell", sort=False).mean(numeric_only=True)
    cells["ratio"] = [float(cell.rpartition("-")[2]) for cell in cells.index]
    rows = []
    for name, says in (
        ("ceiling", "ceiling"),
        ("collapsed", "share worse than guessing"),
        ("spread", "deviation of accuracy over masks"),
        ("ratio", "ratio"),
        ("accuracy", "accuracy after retraining"),
    ):
        both = cells[["tau", name]].dropna()
        rho = spearmanr(both["tau"], both[name])
        rows.append([says, str(len(both)), f"{rho.statistic:.2f}", f"{rho.pvalue:.3f}"])
    print_table(["over cells, tau goes with", "cells", "Spearman's rho", "p (cells taken as independent)"], rows)


def draw(found: pd.DataFrame, released: pd.DataFrame, path: Path) -> None:
    """One picture: tau of every cell, aligned and released, under the ceiling."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "answer"
    import matplotlib.pyplot as plt

    cells = list(dict.fromkeys(found["cell"]))
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    at = dict(zip(cells, range(len(cells)), strict=True))
    axes.axhline(0, color="0.6", linewidth=0.8)
    for cell, own in found.groupby("cell", sort=False):
        mean, ends = own["tau"].mean(), over_networks(own["tau"].tolist())
        if not isinstance(ends, Absent):
            axes.plot([at[str(cell)]] * 2, [ends.low, ends.high], color="#0072b2", linewidth=1.2)
        axes.plot(at[str(cell)], mean, "o", color="#0072b2", markersize=6, label="_" if at[str(cell)] else "aligned")
        axes.plot(
            at[str(cell)],
            own["ceiling"].mean(),
            "_",
            color="0.25",
            markersize=13,
            markeredgewidth=2,
            label="_" if at[str(cell)] else "ceiling: one who knows other images",
        )
    first = True
    for cell in cells:
        parts = by_network(released, cell)
        if parts:
            axes.plot(
                at[cell] + 0.25,
                np.mean([tau(one[X], one[Y]) for one in parts]),
                "x",
                color="#d55e00",
                markersize=6,
                label="released" if first else "_",
            )
            first = False
    axes.set_xticks(range(len(cells)), cells, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("tau: lower loss, better end")
    axes.set_ylim(-0.6, 1.0)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, labels, frameon=False, fontsize=8, ncols=3, loc="upper left")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--table", type=Path, help="another table than the one that comes with trueoracle")
    options.add_argument("--figure", type=Path, help="an .svg file for the picture")
    given = options.parse_args()
    table = TruthTable() if given.table is None else TruthTable(given.table)
    held = table.manifest.studies
    digits = whole_cells(masks_of(table, "digits"), table, "digits")
    print("## Cell by cell, aligned")
    board = board_of(table, "digits")
    found = cell_by_cell(digits, board)
    means = found.groupby("base")["tau"].mean()
    print(
        f"\nall {len(set(found['cell']))} cells, {len(means)} networks: tau {over(means.tolist(), bound=1)}; regret {over(found.groupby('base')['regret'].mean().tolist(), '.2f')} points"
    )
    print("\n## What goes with it")
    causes(found)
    print("\n## What predicts best")
    print_table(
        ["predictor", "rank", "tau", "of ceiling", "regret"],
        [
            [
                r.x,
                f"{r.mean_rank.mean:.1f}",
                over_of(r.agreement),
                "-" if isinstance(r.relative, Absent) else f"{r.relative.mean:.0%}",
                over_of(r.regret, 100),
            ]
            for r in board.rows
        ],
    )
    released = digits.iloc[:0]
    if "digits-released" in held:
        released = whole_cells(masks_of(table, "digits-released"), table, "digits-released")
        print("\n## Aligned and released")
        aligned_and_released(digits, released)
    if "digits-lr0.02" in held:
        print("\n## Another rate of retraining")
        other_rate(digits, whole_cells(masks_of(table, "digits-lr0.02"), table, "digits-lr0.02"))
    if "digits-joint" in held:
        print("\n## Drawn and found")
        drawn_and_found(whole_cells(masks_of(table, "digits-joint"), table, "digits-joint"))
    for study in ("mnist5k", "kmnist5k"):
        if study in held:
            print(f"\n## {study}: the same question with more images")
            cell_by_cell(whole_cells(masks_of(table, study), table, study), board_of(table, study))
    if {"mnist5k", "kmnist5k"} <= set(held):
        print("\n## A harder task")
        equally_judged(table, "mnist5k", "kmnist5k")
    print("\n## Other data, wider and deeper, half of conv1")
    harder(table, ("digits", "digits-w20", "digits-w40", "digits-d6", "digits-d8"), "conv1-0.5")
    harder(table, ("mnist5k", "mnist5k-w40", "mnist5k-d8", "kmnist5k"), "conv1-0.5")
    if given.figure is not None:
        draw(found, released, given.figure)


def over_of(value: Over, times: float = 1.0) -> str:
    """A leaderboard's figure with its interval."""
    ends = value.interval
    return f"{times * value.mean:.2f}" + (
        "" if isinstance(ends, Absent) else f" ({times * ends.low:.2f}, {times * ends.high:.2f})"
    )


def other_rate(usual: pd.DataFrame, other: pd.DataFrame) -> None:
    """The same masks of the same networks retrained at another rate."""
    rows = []
    for cell in dict.fromkeys(other["cell"]):
        bases = sorted(set(other[other["cell"] == cell]["base"]))
        pairs = [(part(usual, cell, base), part(other, cell, base)) for base in bases if len(part(usual, cell, base))]
        if not pairs:
            continue
        first, second = ([tau(one[X], one[Y]) for one in side] for side in zip(*pairs, strict=True))
        worth = [tau(-one.set_index("mask")[Y], two.set_index("mask")[Y].loc[one["mask"]]) for one, two in pairs]
        rows.append(
            [
                cell,
                str(len(pairs)),
                over(first, bound=1),
                over(second, bound=1),
                over([100 * (b[Y].mean() - a[Y].mean()) for a, b in pairs], ".1f"),
                f"{np.mean(worth):.2f}",
            ]
        )
    print_table(
        ["cell", "networks", "tau at 0.002", "tau at 0.02", "accuracy gained by 0.02", "tau of the two accuracies"],
        rows,
    )


if __name__ == "__main__":
    main()
