"""The figures and the picture of searches.md: how near searches come to the lowest loss, and what a race costs.

    python docs/searches.py landscape joint.parquet [--picture docs/searches.svg]
    python docs/searches.py wide w20.safetensors --data-dir DATA
    python docs/searches.py race w20.safetensors --data-dir DATA [--race resnet56 | --race resnet56-first]

`landscape` searches a whole space whose losses `trueoracle oracle` wrote; `wide` one that nobody can evaluate whole;
`race` races masks that are all known, the losses being computed first: killed, the same command goes on with them.
Each prints Markdown.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trueoracle.api import ask_oracle
from trueoracle.data import dataset_shape
from trueoracle.executors import Executor, Stop, Threads
from trueoracle.nets import build
from trueoracle.search import SEARCHES, Ask, Budget, Found, Hunt, Judged, Memory, search
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.study.landscape import Question
from trueoracle.study.searching import OracleJudge
from trueoracle.words.progress import Quiet, bars

SEEDS = 20
# Of 20 values the 6th and the 15th enclose the median with a chance of 95.9%.
LOW, HIGH = 5, 14
_UNKNOWN = -1.0  # no loss
BLOCKS_OF_RACE = 2048  # of images: as many as a race makes of so many images
SITES = ("conv1", "conv2", "conv3")
NAMES = [name for name, method in SEARCHES.items() if not method.by_itself]
BUDGETS = (300, 1000, 3000, 10000)
# Okabe and Ito's palette, safe for the colour-blind.
COLOURS = dict(zip(NAMES, ("#000000", "#999999", "#009E73", "#D55E00", "#0072B2", "#CC79A7"), strict=True))

Losses = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Race:
    """All masks of one site, on so many train images drawn at random."""

    model: str
    width_factor: float = 1.0
    data: str
    site: str
    ratio: float
    images: int

    @property
    def blocks(self) -> int:
        """In how many blocks a race cuts the images."""
        return min(BLOCKS_OF_RACE, self.images)


RACES = {
    "w20": Race(model="lenet5-mini-w20", data="mnist", site="conv1", ratio=0.75, images=16 * BLOCKS_OF_RACE),
    "resnet56": Race(
        model="resnet56", width_factor=0.25, data="cifar10", site="layer3.8.conv1", ratio=0.5, images=BLOCKS_OF_RACE
    ),
    "resnet56-first": Race(
        model="resnet56", width_factor=0.25, data="cifar10", site="layer3.0.conv1", ratio=0.5, images=1280
    ),
}


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("landscape", "wide", "race"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=200, help="of `wide`")
    parser.add_argument("--race", choices=RACES, default="w20")
    parser.add_argument("--threads", type=int, default=1, help="of the losses that `race` begins with")
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    {"landscape": landscape, "wide": wide, "race": race}[asked.what](asked)


def landscape(asked: argparse.Namespace) -> None:
    """All searches on a table of all losses: where what they find stands among all masks."""
    loss_M = pq.read_table(asked.file, columns=["pruned_train_loss"]).column(0).to_numpy()
    space = MaskSpace(tuple(SiteChoice(site=site, units=10, pruned=5) for site in SITES))
    assert len(loss_M) == space.count, "a row a mask, in order of rank"
    order_M = np.sort(loss_M)
    print(f"lowest {order_M[0]:.4f}, second {order_M[1]:.4f}, median {np.median(loss_M):.4f}\n")

    def judge(ask: Ask) -> Judged:
        assert ask.space == space
        found_M = loss_M[list(ask.ranks)]
        return Judged(loss_M=found_M, accuracy_M=0 * found_M, standard_error_M=0 * found_M)

    lowest = lowest_losses(Memory(judge), space, 1, NAMES)
    places = {name: np.searchsorted(order_M, losses, side="right") for name, losses in lowest.items()}
    print("| search | " + " | ".join(f"{budget:,}" for budget in BUDGETS) + " | found at 3,000 |")
    print("|---|" + "--:|" * (len(BUDGETS) + 1))
    for name, place_BS in places.items():
        cells = [f"{np.median(row):,.0f} ({row[LOW]:,} to {row[HIGH]:,})" for row in np.sort(place_BS, axis=1)]
        hits = int((place_BS[BUDGETS.index(3000)] == 1).sum())
        print(f"| `{name}` | {' | '.join(cells)} | {hits} of {SEEDS} |")
    print_gaps(lowest, float(order_M[0]))
    if asked.picture:
        draw(asked.picture, places)


def lowest_losses(memory: Memory, space: MaskSpace, images: int, names: Sequence[str]) -> dict[str, Losses]:
    """The lowest loss found by each search within each budget (rows) from each seed (columns)."""
    found: dict[str, Losses] = {}
    for name in names:
        found[name] = np.array([lowest_of_seed(name, memory, space, images, seed) for seed in range(SEEDS)]).T
    return found


def lowest_of_seed(name: str, memory: Memory, space: MaskSpace, images: int, seed: int) -> list[float]:
    """Annealing cools as its budget goes, so that each budget is a search of its own; others only go on longer."""

    def run(evaluations: int) -> Found:
        hunt = Hunt(method=name, budget=Budget(evaluations=evaluations), seed=seed)
        return search(memory, space, images, hunt, progress=Quiet())

    if name == "annealing":
        return [run(budget).loss for budget in BUDGETS]
    lowest_M = np.minimum.accumulate(run(BUDGETS[-1]).loss_M)
    return [float(lowest_M[budget - 1]) for budget in BUDGETS]


def print_gaps(lowest: dict[str, Losses], best: float) -> None:
    """How far above the best each search ends, in nats."""
    print("\n| search, gap in nats | " + " | ".join(f"{budget:,}" for budget in BUDGETS) + " |")
    print("|---|" + "--:|" * len(BUDGETS))
    for name, loss_BS in lowest.items():
        rows = np.sort(loss_BS - best, axis=1)
        print(f"| `{name}` | {' | '.join(f'{np.median(r):.3f} ({r[LOW]:.3f} to {r[HIGH]:.3f})' for r in rows)} |")


def wide(asked: argparse.Namespace) -> None:
    """All searches on a wider network, against the best that any of them found."""
    global BUDGETS
    BUDGETS = (100, 300)
    prune = dict.fromkeys(SITES, 0.5)
    question = ask_oracle("lenet5-mini-w20", asked.file, "mnist", prune, images=asked.images, data_dir=asked.data_dir)
    memory = Memory(OracleJudge(question=question, images=question.images, executor=Threads(1)))
    names = [name for name in NAMES if name != "sitewise"]  # it lists a site's masks, here 184,756
    lowest = lowest_losses(memory, question.space, asked.images, names)
    best = min(float(losses.min()) for losses in lowest.values())
    print(f"{question.space.count:,} masks on {asked.images:,} images; best known {best:.4f}, found by:")
    for name, loss_BS in lowest.items():
        print(f"  {name}: {int((loss_BS[-1] == best).sum())} of {SEEDS}")
    print_gaps(lowest, best)


def race(asked: argparse.Namespace) -> None:
    """Races of all masks of one site whose losses are all known, block of images by block."""
    run = RACES[asked.race]
    shape = dataset_shape(run.data)
    question = ask_oracle(
        build(run.model, shape, seed=0, width_factor=run.width_factor), asked.file, run.data, {run.site: run.ratio},
        images=run.images, data_dir=asked.data_dir,
    )  # fmt: skip
    loss_MB = known(asked.file.with_suffix(f".{asked.race}.npy"), question, run.blocks, Threads(asked.threads)).T
    order_M = np.argsort(loss_MB.mean(axis=1, dtype=np.float64))
    lowest, second, middle = loss_MB[order_M[[0, 1, len(order_M) // 2]]].mean(axis=1, dtype=np.float64)
    print(
        f"{len(loss_MB):,} masks, {run.images:,} images; lowest {lowest:.4f}, second {second:.4f}, median {middle:.4f}"
    )
    costs, right = [], 0
    for seed in range(SEEDS):
        shuffled = np.random.default_rng(seed).permutation(run.blocks)
        judge = by_blocks(loss_MB[:, shuffled], run.images // run.blocks)
        found = search(Memory(judge), question.space, run.images, race_of(seed), progress=Quiet())
        right += found.best == order_M[0]
        costs.append(len(loss_MB) / found.evaluations)
    costs.sort()
    print(f"the lowest mask found in {right} of {SEEDS}; times cheaper: median {np.median(costs):.1f}", end=" ")
    print(f"({costs[LOW]:.1f} to {costs[HIGH]:.1f}; lowest {costs[0]:.1f})")


def race_of(seed: int) -> Hunt:
    """A race as it is by default."""
    return Hunt(method="race", budget=Budget(), seed=seed)


def known(file: Path, question: Question, blocks: int, executor: Executor) -> NDArray[np.float32]:
    """The mean loss on every block of images, drawn at random, of every mask: a row a block, kept in `file`."""
    size, masks = len(question.images) // blocks, question.space.count
    found_BM: NDArray[np.float32]
    if file.exists():
        found_BM = np.lib.format.open_memmap(file, mode="r+")
    else:
        found_BM = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(blocks, masks))
        found_BM[:] = _UNKNOWN
    left = [block for block in range(blocks) if found_BM[block, -1] == _UNKNOWN]

    def work(block: int, _stop: Stop) -> tuple[int, Losses]:
        images = question.images.take(slice(block * size, (block + 1) * size))
        return block, question.evaluator.sums(range(masks), images).loss_M / size

    with bars().task("losses block by block", len(left), "blocks") as advance:
        for block, losses in executor.run(work, left):
            found_BM[block] = losses
            advance(1)
    return found_BM


def by_blocks(loss_MB: NDArray[np.float32], size: int) -> Callable[[Ask], Judged]:
    """Answers from the table, whose blocks hold `size` images."""

    def judge(ask: Ask) -> Judged:
        part = slice(ask.images.start // size, ask.images.stop // size)
        found_M = loss_MB[list(ask.ranks), part].mean(axis=1, dtype=np.float64)
        return Judged(loss_M=found_M, accuracy_M=0 * found_M, standard_error_M=0 * found_M)

    return judge


def draw(path: Path, places: dict[str, Any]) -> None:
    """Place against evaluations, medians and the intervals of the medians."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"})
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, place_BS in places.items():
        rows = np.sort(place_BS, axis=1)
        axes.fill_between(BUDGETS, rows[:, LOW], rows[:, HIGH], color=COLOURS[name], alpha=0.12, linewidth=0)
        axes.plot(BUDGETS, np.median(rows, axis=1), "o-", color=COLOURS[name], markersize=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="place among 16,003,008 masks")
    axes.set_xticks(BUDGETS, [f"{budget:,}" for budget in BUDGETS])
    axes.minorticks_off()
    axes.legend(frameon=False, ncols=2)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
