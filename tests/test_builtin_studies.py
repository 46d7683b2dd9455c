"""Every built-in study run to its end at scale `tiny`, interrupted once on its way: a fast selection, all in the slow suite.

Data that is not at hand is stood in for by other pictures (see `standins`).
"""

from pathlib import Path

import pytest

from standins import data_folder
from trueoracle import Study
from trueoracle.store import Store
from trueoracle.study import Paused, builtin_studies
from trueoracle.words.progress import Quiet

FAST = ("quickstart", "lenet5-mini-mnist-conv3-0.2", "vgg19-cifar100")


@pytest.fixture(scope="session")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_folder(real_data, tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", FAST)
def test_a_study_runs_at_tiny(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_runs_though_interrupted(name, folder, tmp_path, monkeypatch)


def test_a_report_says_what_its_scale_cannot_support(tmp_path: Path) -> None:
    few = {"cells.0.draw": 4, "train.epochs": 2, "train.milestones": [1], "retrain.epochs": 1, "retrain.milestones": []}
    changes = {**few, "retrain.schedule": "constant"}
    store = f"sqlite:///{tmp_path / 's.db'}"
    study = Study("quickstart", scale="tiny", set=changes, store=store, threads=1, progress=Quiet())
    study.run()
    study.report(tmp_path / "report.html")
    assert study.spec.scale.caveat in (tmp_path / "report.html").read_text().replace("&#39;", "'")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(builtin_studies()))
def test_every_study_runs_at_tiny(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_runs_though_interrupted(name, folder, tmp_path, monkeypatch)


def assert_runs_though_interrupted(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"

    def study() -> Study:
        return Study(name, scale="tiny", data_dir=folder, store=url, threads=2, progress=Quiet())

    put_trials = Store.put_trials

    def interrupted(store: Store, *fleet: object, **claim: object) -> None:
        put_trials(store, *fleet, **claim)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put_trials", interrupted)
        with pytest.raises(Paused):
            study().run()
    before = study().trials()
    assert len(before)
    status = study().run()
    assert (status.finished, status.left) == (status.total, 0)
    trials = study().trials()
    assert before.merge(trials, how="left").equals(before)
    spec = study().spec
    asked = {
        "recalibrated_train_loss": spec.recalibration_images,
        f"after_{spec.loss_after_steps}_steps_train_loss": spec.loss_after_steps,
        "early_test_accuracy": spec.early,
    }
    for column, wanted in asked.items():
        assert (column in trials) == (wanted is not None)
        assert wanted is None or trials[column].notna().all()
