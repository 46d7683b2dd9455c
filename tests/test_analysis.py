import numpy as np
import pandas as pd
import pytest

from trueoracle import Study, analyze_table
from trueoracle.analysis import Verdict, relate
from trueoracle.errors import TableError

NAMES = ("loss", "accuracy")


def test_a_small_example_by_hand() -> None:
    # Pairs: 10; of x and y in the same order 2, in reverse order 8: tau = (2 - 8) / 10.
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([8.0, 9, 7, 5, 6])
    found = relate(x, y, group="g", names=NAMES)
    assert found.kendall_tau == pytest.approx(-0.6)
    assert (found.n, found.anomalies, found.anomaly_ratio) == (5, 1, 0.2)


def test_a_reversed_order_is_minus_one_and_predicts() -> None:
    x = np.arange(20.0)
    found = relate(x, -x, group="", names=NAMES)
    assert found.kendall_tau == pytest.approx(-1)
    assert found.anomalies == 0
    assert found.verdict is Verdict.PREDICTS
    assert relate(x, x, group="", names=NAMES).verdict is Verdict.OPPOSITE


def test_with_a_loss_as_the_result_lower_is_better() -> None:
    x = np.arange(20.0)
    found = relate(x, x, group="", names=("loss", "final_test_loss"))
    assert found.anomalies == 0
    assert found.verdict is Verdict.PREDICTS


def test_ties_are_counted_and_an_equal_result_is_no_anomaly() -> None:
    found = relate(np.array([1.0, 2, 2, 2, 3]), np.array([5.0, 5, 5, 6, 1]), group="", names=NAMES)
    assert (found.tied_x, found.tied_y, found.anomalies) == (3, 3, 1)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "at least 3 masks, but in group `g` there are 2"),
        ([1, 2, np.nan], [1, 2, 3], "column `loss` holds 1 missing or infinite values in group `g`"),
        ([1, 2, 3], [7, 7, 7], r"column `accuracy` is constant \(7\) in group `g`"),
    ],
)
def test_what_cannot_bear_statistics_is_said(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(TableError, match=message):
        relate(np.array(x, float), np.array(y, float), group="g", names=NAMES)


def test_a_missing_column_names_the_nearest() -> None:
    table = pd.DataFrame({"pruned_train_los": [1.0], "final_test_accuracy": [1.0]})
    with pytest.raises(TableError, match="unknown column `pruned_train_loss`: did you mean `pruned_train_los`"):
        analyze_table(table)


def test_an_exported_trial_table_gives_what_the_store_gives(finished: Study) -> None:
    assert analyze_table(finished.trials()) == finished.analyze()
