"""What the report shows, as values: against the tables of the same store."""

from pathlib import Path

import numpy as np
import pytest

from made_up import made_up_study, more_trials
from trueoracle import Study
from trueoracle.analysis import Absent, Interval, analyze_study
from trueoracle.analysis.best import best_mask
from trueoracle.report.findings import CellFindings, Findings, find
from trueoracle.report.grid import grids
from trueoracle.report.page import context, render
from trueoracle.store import Store
from trueoracle.words.errors import StoreError, TableError
from trueoracle.words.progress import Quiet


@pytest.fixture(scope="module")
def findings(finished: Study) -> Findings:
    return find(Store(finished.store_url), finished.plan.digest, Quiet())


def test_cells_stand_in_the_grid_by_sites_and_ratio(findings: Findings) -> None:
    (grid,) = grids(findings.cells)
    assert (grid.base, grid.rows, grid.columns) == (0, ("conv1", "conv3"), ("0.2", "0.5"))
    assert {place: cell.record.name for place, cell in grid.cells.items()} == {
        ("conv1", "0.5"): "conv1-0.5",
        ("conv3", "0.2"): "conv3-0.2",
    }


def test_the_oracle_mask_is_the_one_of_lowest_loss_and_anomalies_end_better(findings: Findings) -> None:
    for cell in findings.cells:
        assert cell.x[cell.oracle] == cell.x.min()
        assert (cell.y[cell.anomalies] > cell.y[cell.oracle]).all()
        assert cell.anomalies.sum() == cell.analysis.choice.anomalies
        assert not cell.exact


def test_curves_are_means_over_repeats_after_the_pruned_loss(findings: Findings, finished: Study) -> None:
    curves, trials = finished.curves(), finished.trials()
    cell: CellFindings = findings.cells[1]
    mask = cell.ranks[2]
    of_mask = curves[(curves["cell"] == "conv3-0.2") & (curves["mask"] == mask)]
    after = [of_mask[of_mask["epoch"] == epoch] for epoch in (1, 2)]
    before = trials[(trials["cell"] == "conv3-0.2") & (trials["mask"] == mask)]["pruned_train_loss"].iloc[0]
    np.testing.assert_allclose(cell.curves.train_loss_nE1[2], [before, *(rows["train_loss"].mean() for rows in after)])
    np.testing.assert_allclose(cell.curves.result_nE[2], [rows["test_accuracy"].mean() for rows in after])
    assert cell.curves.oracle_train_loss_RE1.shape == (2, 3)
    assert cell.curves.oracle_result_RE.shape == (2, 2)


def test_runs_say_what_they_ran_with(findings: Findings) -> None:
    (run,) = findings.runs
    assert run.trials == 20
    assert {"oracle_path", "backend", "backend_reason", "torch", "machine", "device"} <= run.versions.keys()


def test_an_unknown_study_is_said(finished: Study) -> None:
    with pytest.raises(StoreError, match="unknown study `quickstrat`: did you mean `quickstart`"):
        find(Store(finished.store_url), "quickstrat", Quiet())


def test_a_cell_that_has_just_begun_is_left_out_with_the_reason_and_the_others_are_shown(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    study = made_up_study(store, 12, retrained=2)
    with pytest.raises(TableError, match="needs at least 3 masks, but in group `conv1-0.5` there are 2"):
        find(store, study.digest, Quiet())
    more_trials(store, study, start=2, stop=10, cells=(1,))
    found = find(store, study.digest, Quiet())
    assert [cell.record.name for cell in found.cells] == ["conv2-0.25"]
    assert found.left_out == {"conv1-0.5": "a correlation needs at least 3 masks, but in group `conv1-0.5` there are 2"}
    assert found.waiting == ()
    page = render(found, Quiet())
    assert "Left out: conv1-0.5, for a correlation needs at least 3 masks" in page
    with pytest.raises(TableError, match="conv1-0.5"):
        analyze_study(store, study.digest)


def test_the_best_mask_is_chosen_by_validation_and_its_interval_is_wilsons(findings: Findings, finished: Study) -> None:
    best = best_mask([cell.masks for cell in findings.cells])
    means = finished.trials().groupby(["cell", "mask"])[["final_validation_accuracy", "final_test_accuracy"]].mean()
    assert best.chosen_on_validation
    assert means.loc[(best.group, best.mask), "final_validation_accuracy"] == means["final_validation_accuracy"].max()
    assert best.result == pytest.approx(means.loc[(best.group, best.mask), "final_test_accuracy"])
    assert best.repeats == 2
    p, n, z = best.result, 360, 1.959964
    middle, half = (p + z**2 / 2 / n) / (1 + z**2 / n), z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    assert isinstance(best.interval, Interval)
    assert (best.interval.low, best.interval.high) == pytest.approx((middle - half, middle + half), abs=1e-3)


def test_without_answers_the_test_images_choose_and_there_is_no_interval(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    study = made_up_study(store, 20)
    best = best_mask([cell.masks for cell in find(store, study.digest, Quiet()).cells])
    trials = store.trial_table(study.digest)
    assert (best.result, best.chosen_on_validation) == (trials["final_test_accuracy"].max(), False)
    assert isinstance(best.interval, Absent)


def test_more_masks_than_may_be_drawn_are_squares_and_have_no_data_to_walk_through(findings: Findings) -> None:
    most = len(findings.cells[1].x)
    sparse, whole = context(findings, Quiet(), lambda cell: cell.name, most_points=most)["sections"]
    assert len(findings.cells[0].x) > most
    assert (sparse.binned, whole.binned) == (True, False)
    assert sparse.data == ""
    assert "<rect" in sparse.scatter.partition("binned")[2]
    assert "h0" not in sparse.scatter.partition("binned")[2]
    assert sparse.scatter.count("fill-opacity") <= len(findings.cells[0].x)
    assert "binned" not in whole.scatter
    assert whole.data
