"""Cells whose masks a search finds: retrained, marked, and left out where a random sample is needed."""

from pathlib import Path

import pandas as pd
import pytest

from trueoracle import Study, TrueOracleError
from trueoracle.analysis import Caveat, analyze_table
from trueoracle.store import Store
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import parse_spec

CHANGES = {"train.epochs": 4, "train.milestones": [], "train.schedule": "constant", "retrain.epochs": 2,
           "retrain.milestones": [], "retrain.schedule": "constant", "repeats": 1}  # fmt: skip
PRUNE = {"conv2": 0.5, "conv3": 0.5}


def study(cells: list[dict[str, object]], folder: Path) -> Study:
    store = f"sqlite:///{folder / 's.db'}"
    return Study("quickstart", set={**CHANGES, "cells": cells}, store=store, threads=1, progress=Quiet())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Study:
    cell = {"prune": PRUNE, "draw": 8, "search": {"evaluations": 60, "keep": 2}}
    made = study([cell], tmp_path_factory.mktemp("searched"))
    made.run()
    return made


def test_drawn_and_searched_masks_are_retrained_and_marked(run: Study) -> None:
    trials = run.trials()
    assert len(trials) == 10
    assert run.status().left == 0
    marked = trials[trials["searched"]]
    assert len(marked) == 2
    assert set(trials[~trials["searched"]]["mask"]) == set(run.plan.cells[0].drawn or ())
    assert marked["pruned_train_loss"].max() <= trials[~trials["searched"]]["pruned_train_loss"].min()


def test_a_finished_study_is_left_alone_and_finds_the_same_again(run: Study, tmp_path: Path) -> None:
    before = run.trials()
    run.run()
    pd.testing.assert_frame_equal(before, run.trials())
    again = study([cell.model_dump(exclude_none=True) for cell in run.spec.cells], tmp_path)
    again.run()
    assert list(again.trials()["mask"]) == list(before["mask"])
    assert Store(again.store_url).searched(again.plan.digest, 0).keys() == set(before[before["searched"]]["mask"])


def test_statistics_leave_searched_masks_out_and_say_so(run: Study) -> None:
    (found,) = run.analyze()
    assert found.n == 8
    assert Caveat.SEARCHED in found.caveats
    assert "searched" not in {one.x for one in found.predictors}
    (by_table,) = analyze_table(run.trials())
    assert (by_table.n, by_table.association.kendall_tau) == (8, found.association.kendall_tau)
    run.report(Path(run.store_url.removeprefix("sqlite:///")).with_name("page.html"))


def test_a_table_of_searched_masks_alone_bears_no_statistics(run: Study) -> None:
    trials = run.trials()
    with pytest.raises(TrueOracleError, match="all masks were found by a search or given by criteria"):
        analyze_table(trials[trials["searched"]])


def test_searched_masks_alone(tmp_path: Path) -> None:
    alone = study([{"prune": PRUNE, "search": {"method": "draws", "evaluations": 5, "keep": 3}}], tmp_path)
    alone.run()
    assert alone.trials()["searched"].tolist() == [True] * 3


def test_a_cell_that_does_not_search_keeps_its_identity() -> None:
    facts = Study("quickstart").spec.facts()
    assert "search" not in parse_spec(facts, "x").canonical()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"method": "swap", "evaluations": 9}, "unknown search `swap`: did you mean `swaps`?"),
        ({"evaluations": 9, "keep": 10}, "`keep` must not exceed `evaluations`, 9, but got 10"),
        ({"evaluations": 0}, "greater than or equal to 1, but got 0"),
        ({"evaluations": 9, "evaluation": 9}, "unknown key `evaluation`: did you mean `evaluations`?"),
        ({"method": "greedy-backward", "evaluations": 9}, "takes up to 155 evaluations to its first mask here"),
        ({"evaluations": 70000, "keep": 63500}, "cannot keep 63500 masks beside 8 drawn ones in a space of 63504"),
    ],
)
def test_a_search_that_cannot_be_is_one_clear_line(search: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(TrueOracleError) as caught:
        study([{"prune": PRUNE, "draw": 8, "search": search}], tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
