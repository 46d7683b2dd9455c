"""Whether `trueoracle select` finds the masks that exhaustive retraining found to be the best.

    python benchmarks/selection.py STORE STUDY FOLDER [--share 0.05] [--seeds 1] [--networks 0,1,2] [--cells conv3-0.5,...]
    python benchmarks/selection.py --table FOLDER

`STUDY` is one of which every mask of every cell was retrained, several times. Of each of its networks and cells a mask is
selected, from other random orders of the images than the study's own, for `--share` of what retraining every mask once costs
(`FOLDER/rows.csv` keeps what is done; the same command goes on). What a mask is truly worth is its accuracy on test images, mean over the
study's retrainings; no rule looks at test images, and `select` not at the study's retrainings. What it is held against has these:

- `pruned loss`, `L1`, `random`: as many masks as the selection's cost pays, the best by the rule, are taken as retrained in the
  study, once each; the best of them on validation images is the rule's choice;
- `... judged alike`: the same masks, chosen among as `select` does;
- `every mask`, once, judged alike, or by validation accuracy alone, once or in all repeats: what knowing all reaches.

In the true top 5% is a mask that is no worse than the ceil(0.05 M)-th best of M.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from measure import machine

from trueoracle import api
from trueoracle.criteria import l1
from trueoracle.nets import weights_from_bytes
from trueoracle.selection.budget import Budget, Purse
from trueoracle.selection.foremost import foremost
from trueoracle.selection.ladder import Ladder, Wave
from trueoracle.store import CellRecord, Store, StudyRecord
from trueoracle.study import plan
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import StudySpec, parse_spec
from trueoracle.words.trial import Outcome, Trial

TOP = 0.05
DRAWS = 10_000


@dataclass(frozen=True)
class Row:
    """What one rule chose in one cell: `truth` and `best` are accuracies, `epochs` the model-epochs it was given."""

    network: int
    cell: str
    seed: int
    masks: int
    rule: str
    mask: int
    epochs: float
    seconds: float
    truth: float
    best: float
    top: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One cell of one network, retrained exhaustively."""

    spec: StudySpec
    weights: bytes
    network: int
    cell: str
    losses: dict[int, float]
    trials: dict[int, list[Trial]]

    @property
    def truth(self) -> dict[int, float]:
        """By mask, its test accuracy: the mean over retrainings."""
        return {
            mask: float(np.mean([one.final.test_accuracy for one in of if one.final]))
            for mask, of in self.trials.items()
        }

    def row(self, rule: str, seed: int, mask: int, epochs: float, seconds: float) -> Row:
        """What the choice comes to."""
        truth = self.truth
        ordered = sorted(truth.values(), reverse=True)
        top = ordered[ceil(TOP * len(ordered)) - 1]
        return Row(
            self.network, self.cell, seed, len(truth), rule, mask, epochs, seconds, truth[mask], ordered[0], top
        )  # fmt: skip

    def on_validation(self, masks: Sequence[int], repeats: Sequence[int]) -> int:
        """The best on validation images, of equal ones the first."""
        return max(masks, key=lambda mask: sum(self._right(mask, repeat) for repeat in repeats))

    def judged(self, masks: Sequence[int], repeat: int, epochs: int) -> int:
        """The best as a selection judges, which has trained them to the end, once."""
        ladder = Ladder((epochs,), Purse(budget=Budget(epochs=0.0), threads=1, pace=lambda: 1.0), seed=0)
        trials = [self.trials[mask][repeat] for mask in masks]
        ladder.tell(Wave(rung=0, masks=tuple((one.cell, one.mask) for one in trials), repeats=1), trials)
        return ladder.choice().chosen.mask[1]

    def _right(self, mask: int, repeat: int) -> int:
        return int(self.trials[mask][repeat].answers["validation"].right.sum())


def cases(store: Store, study: StudyRecord, networks: Sequence[int], cells: Sequence[str]) -> Iterator[Case]:
    """Those asked for that are complete; all where none are named."""
    spec = parse_spec(json.loads(study.spec), study.name)
    for record in store.cells(study.digest):
        name = record.name.partition(",")[0]
        if (networks and record.base not in networks) or (cells and name not in cells):
            continue
        case = _case(store, study, spec, record, name)
        if case is None:
            print(f"left out, not every mask of it was retrained {spec.repeats} times: {record.name}")
        else:
            yield case


def _case(store: Store, study: StudyRecord, spec: StudySpec, record: CellRecord, name: str) -> Case | None:
    trials: dict[int, list[Trial]] = {}
    for trial in store.whole_trials(study.digest, record.index):
        if trial.outcome is Outcome.FINISHED:
            trials.setdefault(trial.mask, []).append(trial)
    losses = store.masks(study.digest, record.index)
    base = store.base(study.digest, record.base)
    if base is None or set(trials) != set(losses) or any(len(of) != spec.repeats for of in trials.values()):
        return None
    return Case(spec=spec, weights=base.weights, network=record.base, cell=name, losses=losses, trials=trials)


def rows(case: Case, share: float, seed: int) -> Iterator[Row]:
    """A selection, and what it is held against."""
    epochs, repeats = case.spec.retrain.epochs, case.spec.repeats
    masks, repeat = sorted(case.trials), seed % repeats
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "base.safetensors"
        weights.write_bytes(case.weights)
        template = alone(case, weights, seed)
        found = api.select(
            study=template, budget=f"{int(share * len(masks) * epochs)}-epochs", compare="none",
            store=f"sqlite:///{Path(folder) / 'selection.db'}", threads=1, progress=Quiet(),
        ).selected  # fmt: skip
        planned = plan(template)
    yield case.row("select", seed, found.chosen.mask, found.spent, found.seconds)
    net, space = planned.nets[0], planned.cells[0].space
    weights_from_bytes(net, case.weights, "of the study")
    number = max(1, int(found.spent / epochs))
    units = {one.site: l1(net, planned.sites[one.site]) for one in space.sites}
    rules = {
        "pruned loss": sorted(case.losses, key=case.losses.__getitem__)[:number],
        "L1": list(islice(foremost(space, units), number)),
        "random": space.draw(number, seed),
    }
    for rule, tried in rules.items():
        yield case.row(rule, seed, case.on_validation(tried, [repeat]), number * epochs, 0.0)
        yield case.row(f"{rule}, judged alike", seed, case.judged(tried, repeat, epochs), number * epochs, 0.0)
    whole = len(masks) * epochs
    yield case.row("every mask, judged alike", seed, case.judged(masks, repeat, epochs), whole, 0.0)
    yield case.row("every mask", seed, case.on_validation(masks, [repeat]), whole, 0.0)
    yield case.row("every mask, all repeats", seed, case.on_validation(masks, range(repeats)), whole * repeats, 0.0)


def alone(case: Case, weights: Path, seed: int) -> StudySpec:
    """The study of this cell and network alone, with seeds of its own."""
    prune = next(cell for cell in case.spec.cells if cell.name == case.cell)
    changes = {
        "cells": (prune.model_copy(update={"draw": None}),), "base_weights": weights, "base_networks": 1, "repeats": 1,
        "early": None, "loss_after_steps": None, "seeds_of": f"selection {case.network} {seed}",
    }  # fmt: skip
    return case.spec.model_copy(update=changes)


def table(path: Path) -> None:
    """Print how often each rule's choice is in the true top, and its regret beside that of `select`."""
    found = pd.read_csv(path)
    found["hit"] = found.truth >= found.top - 1e-12
    found["regret"] = 100 * (found.best - found.truth)
    key = ["network", "cell", "seed"]
    ours = found[found.rule == "select"].set_index(key)
    networks = ", ".join(map(str, sorted(ours.index.get_level_values("network").unique())))
    print(f"networks {networks}: {len(ours)} selections in {ours.index.droplevel('seed').nunique()} cells")
    print("| rule | model-epochs | in the true top 5% | of 12 | regret, points | more regret than `select` | 95% |")
    print("|---|--:|--:|--:|--:|--:|---|")
    for rule, own in found.groupby("rule", sort=False):
        own = own.set_index(key).loc[ours.index]
        more = own.regret - ours.regret
        low, high = interval(more)
        print(
            f"| {rule} | {own.epochs.mean():.0f} | {own.hit.mean():.0%} | {12 * own.hit.mean():.1f} | {own.regret.mean():.2f} "
            f"| {more.mean():.2f} | {low:.2f} to {high:.2f} |"
        )
    sites = ours.groupby(lambda at: at[1].partition("-")[0])
    for site, own in sites:
        every = found[(found.rule == "every mask, judged alike") & found.cell.str.startswith(f"{site}-")]
        print(f"{site}: select in the top {own.hit.mean():.0%}, regret {own.regret.mean():.2f}; every mask judged alike "
              f"{every.hit.mean():.0%}, {every.regret.mean():.2f}")  # fmt: skip


def interval(values: "pd.Series[float]") -> tuple[float, float]:
    """95%, by the bootstrap over cells of networks, and over seeds within them."""
    random = np.random.default_rng(0)
    cells = [of.to_numpy() for _, of in values.groupby(["network", "cell"])]
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        chosen = random.integers(len(cells), size=len(cells))
        means[draw] = np.mean([cells[at][random.integers(len(cells[at]), size=len(cells[at]))].mean() for at in chosen])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Select, or print what was selected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="STORE STUDY", help="the store's address and the study's name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--networks", default="")
    parser.add_argument("--cells", default="")
    parser.add_argument("--table", action="store_true", help="print what the folder has, and select nothing")
    asked = parser.parse_args()
    path = asked.folder / "rows.csv"
    if not asked.table:
        asked.folder.mkdir(exist_ok=True)
        store = Store(asked.what[0])
        chosen = cases(
            store, store.find(asked.what[1]), [int(one) for one in asked.networks.split(",") if one],
            [one for one in asked.cells.split(",") if one],
        )  # fmt: skip
        print(json.dumps(machine()))
        for case in chosen:
            done = _done(path)
            for seed in range(asked.seeds):
                if (case.network, case.cell, seed) not in done:
                    _append(path, list(rows(case, asked.share, seed)))
    table(path)


def _done(path: Path) -> set[tuple[int, str, int]]:
    if not path.exists():
        return set()
    return set(pd.read_csv(path)[["network", "cell", "seed"]].itertuples(index=False, name=None))


def _append(path: Path, found: Sequence[Row]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow([field.name for field in fields(Row)])
        writer.writerows([astuple(row) for row in found])


if __name__ == "__main__":
    main()
