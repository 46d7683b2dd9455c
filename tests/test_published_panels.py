"""The paper's own points, where they are at hand, against the figures it printed."""

from pathlib import Path

import pandas as pd
import pytest

from trueoracle.analysis import CellAnalysis, Verdict, analyze_table, read_table
from trueoracle.analysis.verdict import Caveat


@pytest.fixture(scope="module")
def printed(real_data: Path) -> pd.DataFrame:
    return pd.read_csv(real_data / "published_panels" / "panels.csv").set_index("panel")


@pytest.fixture(scope="module")
def found(real_data: Path, printed: pd.DataFrame) -> dict[str, CellAnalysis]:
    """All panels with every statistic."""
    classes = {str(panel): 100 if row.dataset == "cifar100" else 10 for panel, row in printed.iterrows()}
    analyses = analyze_table(
        read_table(real_data / "published_panels" / "points.parquet"), group="panel", classes_of=classes
    )
    return {one.group: one for one in analyses}


def test_every_printed_tau_and_anomaly_ratio_is_reproduced(
    printed: pd.DataFrame, found: dict[str, CellAnalysis]
) -> None:
    assert found.keys() == set(printed.index)
    off = {}
    for panel, row in printed.iterrows():
        one = found[str(panel)]
        assert one.n == row.masks
        assert f"{one.kendall_tau:.2f}" == f"{row.printed_kendall_tau:.2f}"
        difference = one.choice.anomalies - round(row.printed_anomaly_ratio * row.masks)
        if abs(difference) > 1:
            off[panel] = (difference, one.choice.tied_with_oracle)
    # One panel cannot be reproduced: eighteen masks tie with the oracle mask, and how many of them the paper counted
    # as better hung on the last bits of its means. Those of the points as read give two more than printed.
    assert off == {"lenet5mini-w20-mnist-conv1-0.5": (2, 18)}


def test_panels_of_collapsed_networks_are_flagged(found: dict[str, CellAnalysis]) -> None:
    collapsed = {panel for panel, one in found.items() if Caveat.COLLAPSED in one.caveats}
    assert collapsed == {
        "lenet5mini-d8-mnist-conv1-0.5",
        "lenet5mini-mnist-conv1+conv2+conv3-0.5",
        "lenet5mini-mnist-conv2+conv3-0.5",
        "lenet5mini-mnist-conv3-0.5",
        "lenet5mini-mnist-conv3-0.6",
        "lenet5mini-mnist-conv3-0.8",
        "resnet56-cifar10-conv1s-0.5",
        "vgg19-cifar100-all-0.5",
    }
    assert all(Caveat.NAIVE in one.caveats for one in found.values())


def test_few_masks_cannot_tell_and_many_can(found: dict[str, CellAnalysis]) -> None:
    assert found["lenet5mini-mnist-conv3-0.8"].verdict is Verdict.CANNOT_TELL
    assert found["resnet56-cifar10-conv1s-0.5"].verdict is Verdict.NOTHING
    assert found["vgg19-cifar100-all-0.5"].verdict is Verdict.NOTHING


def test_one_mask_decides_the_anomaly_ratio(found: dict[str, CellAnalysis]) -> None:
    at = found["vgg19-cifar100-all-0.5"].choice.at[-1]
    assert at.k == 20
    assert at.anomaly_ratio_low < 0.05
    assert at.anomaly_ratio_high > 0.99
