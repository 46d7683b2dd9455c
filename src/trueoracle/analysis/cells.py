"""A stored study cell by cell: repeats of a mask averaged, trials without figures counted and left out."""

import pandas as pd

from trueoracle.analysis.relation import Relation, relate
from trueoracle.errors import TableError
from trueoracle.store import Store
from trueoracle.trial import Outcome

X, Y = "pruned_train_loss", "final_test_accuracy"


def analyze_study(store: Store, study: str, x: str = X, y: str = Y) -> list[Relation]:
    """The relation of `x` and `y` in every cell of the study (by name or digest) that has trials.

    `x` is a column of the trials or a criterion's score. A mask's y is the mean over its finished repeats.
    """
    return analyze_trials(scored_trials(store, study), x, y)


def scored_trials(store: Store, study: str) -> pd.DataFrame:
    """The trial table of a study that has trials."""
    trials = store.trial_table(store.find(study).digest)
    if trials.empty:
        raise TableError(f"study `{study}` has no trials yet: run it first")
    return trials


def analyze_trials(trials: pd.DataFrame, x: str, y: str) -> list[Relation]:
    """The relation of `x` and `y` over the masks of each cell of a trial table."""
    relations = []
    for cell, rows in trials.groupby("cell", sort=False):
        masks, excluded = mean_over_repeats(rows, x, y)
        relations.append(
            relate(masks[x].to_numpy(float), masks[y].to_numpy(float), group=str(cell), names=(x, y), excluded=excluded)
        )
    return relations


def mean_over_repeats(rows: pd.DataFrame, x: str, y: str) -> tuple[pd.DataFrame, int]:
    """A row a mask, in order of mask, with `pruned`, x and the mean of y; and how many trials were left out."""
    for column in (x, y):
        if column not in rows.columns:
            raise TableError(f"there is no column `{column}`; there are {', '.join(map(str, rows.columns))}")
    finished = rows[rows["outcome"] == Outcome.FINISHED.value]
    masks = finished.groupby("mask", sort=True).agg({"pruned": "first", x: "first", y: "mean"}).reset_index()
    return masks, len(rows) - len(finished)
