"""What the report shows, as values: against the tables of the same store."""

import numpy as np
import pytest

from trueoracle import Study
from trueoracle.report.findings import CellFindings, Findings, find
from trueoracle.report.grid import grids
from trueoracle.store import Store
from trueoracle.words.errors import StoreError
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
    np.testing.assert_allclose(cell.curves.test_accuracy_nE[2], [rows["test_accuracy"].mean() for rows in after])
    assert cell.curves.oracle_train_loss_RE1.shape == (2, 3)
    assert cell.curves.oracle_test_accuracy_RE.shape == (2, 2)


def test_runs_say_what_they_ran_with(findings: Findings) -> None:
    (run,) = findings.runs
    assert run.trials == 20
    assert {"oracle_path", "backend", "backend_reason", "torch", "machine", "device"} <= run.versions.keys()


def test_an_unknown_study_is_said(finished: Study) -> None:
    with pytest.raises(StoreError, match="unknown study `quickstrat`: did you mean `quickstart`"):
        find(Store(finished.store_url), "quickstrat", Quiet())
