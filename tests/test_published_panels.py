"""The paper's own points, where they are at hand, against the figures it printed."""

from pathlib import Path

import pandas as pd
import pytest

from trueoracle.analysis import analyze_table, read_table

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "published_panels"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the published points are not part of the project")
def test_every_printed_tau_and_anomaly_ratio_is_reproduced() -> None:
    printed = pd.read_csv(FOLDER / "panels.csv").set_index("panel")
    found = {r.group: r for r in analyze_table(read_table(FOLDER / "points.parquet"), group="panel")}
    assert found.keys() == set(printed.index)
    off = {}
    for panel, row in printed.iterrows():
        cell = found[str(panel)]
        assert cell.n == row.masks
        assert f"{cell.kendall_tau:.2f}" == f"{row.printed_kendall_tau:.2f}"
        difference = cell.choice.anomalies - round(row.printed_anomaly_ratio * row.masks)
        if abs(difference) > 1:
            off[panel] = (difference, cell.choice.tied_with_oracle)
    # One panel cannot be reproduced: eighteen masks tie with the oracle mask, and how many of them the paper counted
    # as better hung on the last bits of its means. Those of the points as read give two more than printed.
    assert off == {"lenet5mini-w20-mnist-conv1-0.5": (2, 18)}
