"""Whether `trueoracle select` finds the masks that exhaustive retraining found to be the best.

    trueoracle table export digits --store sqlite:///digits.db
    python benchmarks/selection.py sqlite:///digits.db digits [--shares 0.05,0.15] [--tuned 0,1,2]

`STUDY` is one of which every mask of every cell was retrained, several times, by a recipe so short that `select` makes one rung of
it, and whose criteria are measured. Nothing is trained. For each share of what retraining every mask *once* costs (with three
retrainings a mask, 0.15 is 5% of what the truth cost), and from each of the retrainings, a mask is chosen as `select` would: a
tenth at random, the others those its criteria agree on, judged as it judges. It is held against rules that have as many masks
and the same retrainings:

- `pruned loss`, `L1`, `random`: the best of its masks on validation images is the rule's choice;
- `L1, judged alike`: the best of L1's masks, as `select` judges;
- `every mask`, judged alike, or by validation accuracy, once or in all retrainings: what knowing all reaches.

What a mask is truly worth is its accuracy on test images, the mean of all its retrainings; no rule looks at them. In the true top
5% is a mask that is no worse than the ceil(0.05 M)-th best of M. Intervals are of the bootstrap over cells and retrainings.
`--tuned` names the base networks on whose cells choices of `select` were made, of `digits` 0, 1 and 2; of other studies say `--tuned ''`.
Letters: M masks, R retrainings, I images.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from math import ceil

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trueoracle.selection.candidates import CRITERIA, SHARE_OF_DRAWS
from trueoracle.selection.judging import signs, worth
from trueoracle.selection.ladder import first_masks
from trueoracle.selection.rungs import rung_epochs
from trueoracle.store import CellRecord, Store
from trueoracle.words.spec import StudySpec, parse_spec

TOP = 0.05
DRAWS = 10_000
Places = NDArray[np.int64]


class Case:
    """One cell of one network, retrained exhaustively; `of` are its trials and `last` their last epochs, in the order of masks
    and retrainings.
    """

    def __init__(self, of: pd.DataFrame, last: pd.DataFrame, right_MRI: NDArray[np.bool_]) -> None:
        shape = right_MRI.shape[:2]
        self.right_MRI = right_MRI
        self.truth_M = of.final_test_accuracy.to_numpy().reshape(shape).mean(1)
        self.accuracy_MR = last.train_accuracy.to_numpy().reshape(shape)
        self.loss_MR = last.train_loss.to_numpy().reshape(shape)
        once = of[of.repeat == 0]
        self.by_loss = np.argsort(once.pruned_train_loss.to_numpy(), kind="stable")
        self.by_l1 = np.argsort(once.l1.to_numpy(), kind="stable")
        # Of one site the sum of scaled importances is that of scaled scores: `selection.candidates.agreed`.
        self.agreed = np.argsort(sum(once[name].to_numpy() / once[name].std() for name in CRITERIA), kind="stable")

    def candidates(self, number: int, seed: int) -> Places:
        """Those that `select` would begin with."""
        few = round(SHARE_OF_DRAWS * number)
        drawn = np.random.default_rng(seed).choice(len(self.truth_M), few, replace=False)
        return np.concatenate([drawn, self.agreed[~np.isin(self.agreed, drawn)][: number - few]])

    def judged(self, tried: Places, repeat: int) -> int:
        """The best as `select` judges masks that were retrained once."""
        right_MI = self.right_MRI[tried, repeat].astype(np.float64)
        told = signs(self.accuracy_MR[tried, repeat], self.loss_MR[tried, repeat])
        return int(tried[np.argmax(worth(right_MI, told, np.zeros(len(tried))).mean_M)])

    def on_validation(self, tried: Places, repeats: list[int]) -> int:
        """The best on validation images, of equal ones the first."""
        return int(tried[np.argmax(self.right_MRI[tried][:, repeats].mean((1, 2)))])

    def choices(self, number: int, repeat: int) -> Iterator[tuple[str, int, int]]:
        """Each rule, how many retrainings it has, and its choice."""
        masks, repeats = self.right_MRI.shape[:2]
        every = np.arange(masks)
        yield "select", number, self.judged(self.candidates(number, repeat), repeat)
        drawn = np.random.default_rng(100 + repeat).choice(masks, number, replace=False)
        for rule, order in {"pruned loss": self.by_loss, "L1": self.by_l1, "random": drawn}.items():
            yield rule, number, self.on_validation(order[:number], [repeat])
        yield "L1, judged alike", number, self.judged(self.by_l1[:number], repeat)
        yield "every mask, judged alike", masks, self.judged(every, repeat)
        yield "every mask", masks, self.on_validation(every, [repeat])
        yield "every mask, all retrainings", masks * repeats, self.on_validation(every, [*range(repeats)])


def cases(store: Store, digest: str, spec: StudySpec) -> Iterator[tuple[CellRecord, Case]]:
    """All that are complete."""
    trials = store.trial_table(digest)
    for record in store.cells(digest):
        of = trials[trials.cell == record.name].sort_values(["mask", "repeat"])
        answers = store.answers(digest, record.index, "validation")
        if answers is None or len(of) != record.space * spec.repeats or of.final_test_accuracy.isna().any():
            print(f"left out, not every mask of it was retrained {spec.repeats} times: {record.name}")
            continue
        curves = store.curve_table(digest, record.index)
        last = curves[curves.epoch == curves.epoch.max()].sort_values(["mask", "repeat"])
        yield record, Case(of, last, answers.right_MRI[np.argsort(answers.ranks)])


def chosen(store: Store, digest: str, spec: StudySpec, shares: list[float]) -> pd.DataFrame:
    """A row a cell, share, retraining and rule: whether its choice is in the true top, and its regret in points."""
    found = []
    for record, case in cases(store, digest, spec):
        masks = len(case.truth_M)
        best = np.sort(case.truth_M)[::-1]
        for share in shares:
            number = first_masks(share * masks * spec.retrain.epochs, (spec.retrain.epochs,))
            for repeat in range(spec.repeats):
                for rule, retrained, mask in case.choices(number, repeat):
                    truth = case.truth_M[mask]
                    found.append({
                        "network": record.base, "cell": record.name, "site": "+".join(record.sites), "share": share, "repeat": repeat,
                        "rule": rule, "retrained": retrained, "hit": truth >= best[ceil(TOP * masks) - 1] - 1e-12,
                        "regret": 100 * (best[0] - truth),
                    })  # fmt: skip
    return pd.DataFrame(found)


def show(found: pd.DataFrame, title: str) -> None:
    """How often each rule's choice is in the true top, and its regret beside that of `select`."""
    key = ["cell", "repeat"]
    ours = found[found.rule == "select"].set_index(key)
    print(f"\n{title}: {found.cell.nunique()} cells of {found.network.nunique()} networks, {len(ours)} selections")
    print("| rule | retrainings | in the true top 5%, of 12 | regret, points | more than `select` | 95% |")
    print("|---|--:|--:|--:|--:|---|")
    for rule, own in found.groupby("rule", sort=False):
        own = own.set_index(key).loc[ours.index]
        more = own.regret - ours.regret
        low, high = interval(more)
        print(f"| {rule} | {own.retrained.mean():.1f} | {12 * own.hit.mean():.1f} | {own.regret.mean():.2f} "
              f"| {more.mean():+.2f} | {low:+.2f} to {high:+.2f} |")  # fmt: skip
    for site, of in found.groupby("site"):
        told = of.groupby("rule")[["hit", "regret"]].mean()
        print(", ".join(
            f"{rule}: {12 * told.hit[rule]:.1f} of 12, regret {told.regret[rule]:.2f}"
            for rule in ("select", "L1", "pruned loss", "every mask, judged alike")
        ).join([f"{site}: ", ""]))  # fmt: skip


def interval(more: "pd.Series[float]") -> tuple[float, float]:
    """95%, by the bootstrap over cells of networks, and over retrainings within them."""
    random = np.random.default_rng(0)
    of_cell = more.unstack("repeat").to_numpy()
    count, repeats = of_cell.shape
    cells = random.integers(count, size=(DRAWS, count, 1))
    means = of_cell[cells, random.integers(repeats, size=(DRAWS, count, repeats))].mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Choose, and print what it comes to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("study")
    parser.add_argument("--shares", default="0.05,0.15")
    parser.add_argument("--tuned", default="0,1,2")
    asked = parser.parse_args()
    store = Store(asked.store)
    study = store.find(asked.study)
    spec = parse_spec(json.loads(study.spec), study.name)
    if len(rung_epochs(spec.retrain.epochs)) > 1:
        sys.exit(
            f"`{study.name}` retrains for {spec.retrain.epochs} epochs, of which `select` makes several rungs: its trials are of the last alone"
        )
    found = chosen(store, study.digest, spec, [float(share) for share in asked.shares.split(",")])
    tuned = found.network.astype(str).isin(asked.tuned.split(","))
    for where, own in found.groupby(np.where(tuned, "tuned", "left aside"), sort=False):
        for share, of in own.groupby("share"):
            show(of, f"{where}, {share:.0%} of retraining every mask once")


if __name__ == "__main__":
    main()
