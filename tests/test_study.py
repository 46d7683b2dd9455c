import pandas as pd

from conftest import TINY
from trueoracle import Study
from trueoracle.progress import Quiet


def table(study: Study) -> pd.DataFrame:
    return study.trials().drop(columns="seconds")


def test_a_finished_study_has_every_trial_once(finished: Study) -> None:
    assert finished.status().finished == finished.status().total == 20
    trials = finished.trials()
    assert not trials.duplicated(["cell", "mask", "repeat"]).any()
    assert list(trials.columns) == [
        "study", "cell", "mask", "pruned", "repeat", "seed", "pruned_train_loss", "pruned_train_accuracy",
        "final_train_loss", "final_test_loss", "final_test_accuracy", "outcome", "seconds",
    ]  # fmt: skip
    assert len(finished.curves()) == 20 * 2


def test_seeds_depend_on_the_repeat_alone(finished: Study) -> None:
    assert (finished.trials().groupby("repeat")["seed"].nunique() == 1).all()
    assert finished.trials()["seed"].nunique() == 2


def test_the_same_study_gives_the_same_table_with_another_number_of_threads(finished: Study, tmp_path) -> None:
    again = Study("quickstart", set=TINY, store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet())
    again.run()
    pd.testing.assert_frame_equal(table(again), table(finished), check_exact=True)


def test_a_diverging_network_is_an_outcome(tmp_path) -> None:
    wild = {**TINY, "retrain.lr": 1e6, "repeats": 1}
    study = Study("quickstart", set=wild, store=f"sqlite:///{tmp_path / 's.db'}", threads=2, progress=Quiet())
    status = study.run()
    assert status.diverged == status.total == 10
    assert status.left == 0
    assert set(study.trials()["outcome"]) == {"diverged: the loss became infinite or not a number"}
