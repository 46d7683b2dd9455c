"""Whether what is said from few test images holds on others: random test sets cut out of a stored study with many.

    python benchmarks/calibration.py STUDY [--store URL] [--draws 200] [--images 360 1000 5000]

Each draw takes so many of the test images as if there were no others, analyses every cell, and looks at the
remaining images: does the interval of tau cover the tau there, that of regret what the best masks here are worth
there over the oracle mask, that of the ceiling the tau that their results reach there; and how often is regret surely
above zero although the best mask here is no better there. Intervals are for as many other images as remain. Core-seconds are of one process.
"""

import argparse
import sys
from dataclasses import dataclass, fields, replace
from time import process_time

import numpy as np

from trueoracle.analysis import CellMasks, Interval
from trueoracle.analysis.cells import X, Y, study_masks
from trueoracle.analysis.crossfit import worth_of_pick
from trueoracle.analysis.masks import Answers
from trueoracle.analysis.other_images import answers_of, other_images
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.resample import retrained
from trueoracle.analysis.spread import mean_of_repeats
from trueoracle.store import DEFAULT_URL, Store


@dataclass(frozen=True)
class Row:
    """What one test set said and what the remaining images say; shares are of draws."""

    tau_here: float
    tau: float
    tau_there: float
    tau_covered: bool
    tau_width: float
    worth: float
    worth_there: float
    worth_covered: bool
    above_zero: bool
    falsely: bool
    ceiling: float
    ceiling_there: float
    ceiling_covered: bool


def main() -> None:
    """Print a table a cell: a line for each size of test set."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("study")
    arguments.add_argument("--store", default=DEFAULT_URL)
    arguments.add_argument("--draws", type=int, default=200)
    arguments.add_argument("--images", type=int, nargs="+", default=[360, 1_000, 5_000])
    given = arguments.parse_args()
    for cell in study_masks(Store(given.store), given.study, [X], Y):
        table(cell, given.images, given.draws)


def table(cell: CellMasks, sizes: list[int], draws: int) -> None:
    """Coverage over `draws` test sets of each size."""
    answers = answers_of(cell)
    if not isinstance(answers, Answers):
        sys.exit(answers.why)
    whole = kendall_tau(cell.x[X], np.round(mean_of_repeats(answers).mean(axis=1), 6))
    print(
        f"{cell.group}: {cell.n} masks, {answers.right_nRI.shape[1]} repeats, {answers.images:,} images, tau {whole:.3f}"
    )
    print("| images | tau here | tau from here for there | tau there | covered | width | regret | worth there | covered | "
          "above zero | falsely | ceiling | reached there | covered |")  # fmt: skip
    print("|--:|" + "--:|" * 13)
    begin = process_time()
    for images in sizes:
        if images >= answers.images:
            continue
        rows = [drawn(cell, answers, images, np.random.default_rng((images, draw))) for draw in range(draws)]
        mean = {field.name: float(np.mean([getattr(row, field.name) for row in rows])) for field in fields(Row)}
        print(
            f"| {images:,} | {mean['tau_here']:.3f} | {mean['tau']:.3f} | {mean['tau_there']:.3f} | {mean['tau_covered']:.0%} "
            f"| {mean['tau_width']:.2f} | {mean['worth']:.4f} | {mean['worth_there']:.4f} | {mean['worth_covered']:.0%} "
            f"| {mean['above_zero']:.0%} | {mean['falsely']:.0%} | {mean['ceiling']:.2f} | {mean['ceiling_there']:.2f} "
            f"| {mean['ceiling_covered']:.0%} |",
            flush=True,
        )
    print(f"{draws} draws of each size, {process_time() - begin:.0f} core-seconds\n")


def drawn(cell: CellMasks, answers: Answers, images: int, rng: np.random.Generator) -> Row:
    """One test set of so many images, against the others."""
    order = rng.permutation(answers.images)
    here = replace(answers, right_nRI=answers.right_nRI[:, :, order[:images]])
    there = mean_of_repeats(replace(answers, right_nRI=answers.right_nRI[:, :, order[images:]])).mean(axis=1).round(6)
    others = answers.images - images
    y_n = mean_of_repeats(here).mean(axis=1).round(6)
    of_repeats = np.where(here.known_nR, here.right_nRI.mean(axis=2), np.nan)
    small = replace(cell, y_nR=of_repeats, test=here, validation=None)
    again = {X: retrained(small, cell.x[X], 499, rng)}
    found = other_images(replace(small, x={X: cell.x[X]}), here, again, others, rng)
    oracle = int(np.argmin(cell.x[X]))
    gained = worth_of_pick(here, None, np.array([oracle]), others, rng)
    truly = float(there[y_n == y_n.max()].mean() - there[oracle])
    (tau, of_tau), (top, of_top) = found.tau(0), found.ceiling()
    tau_there, reached = kendall_tau(cell.x[X], there), max(0.0, kendall_tau(y_n, there))
    return Row(
        tau_here=kendall_tau(cell.x[X], y_n),
        tau=tau,
        tau_there=tau_there,
        tau_covered=covers(of_tau, tau_there),
        tau_width=of_tau.high - of_tau.low,
        worth=gained.worth,
        worth_there=truly,
        worth_covered=covers(gained.interval, truly),
        above_zero=gained.interval.low > 0,
        falsely=gained.interval.low > 0 >= truly,
        ceiling=top,
        ceiling_there=reached,
        ceiling_covered=covers(of_top, reached),
    )


def covers(found: Interval, truth: float) -> bool:
    """Whether the interval holds the truth."""
    return found.low <= truth <= found.high


if __name__ == "__main__":
    main()
