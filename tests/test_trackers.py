"""Curves of trials in a tracker: what arrives there is what the store keeps."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from test_workers import SHORT, written
from trueoracle import Study
from trueoracle.api.trackers import tracker
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.trial import Figures, Outcome, Trial


def trial() -> Trial:
    curve = tuple(
        Figures(train_loss=1.0 / n, train_accuracy=0.5, test_loss=2.0 / n, test_accuracy=0.25) for n in (1, 2)
    )
    return Trial(
        cell=0, mask=7, repeat=1, seed=3, outcome=Outcome.FINISHED, curve=curve, final=curve[-1], seconds=1.0, every=5
    )


def test_tensorboard_has_the_curves_that_the_store_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    study = Study(
        written({**SHORT, "base_networks": 1}, tmp_path), store=f"sqlite:///{tmp_path / 's.db'}", threads=1,
        log_to="tensorboard", progress=Quiet(),
    )  # fmt: skip
    study.run()
    curves = study.curves()
    folders = list((tmp_path / "runs" / study.spec.name).glob("*/*"))
    assert len(folders) == study.plan.trials
    for folder in folders:
        told = event_accumulator.EventAccumulator(str(folder))
        told.Reload()
        mask, repeat = map(int, folder.name.split("-"))
        expected = curves[(curves["mask"] == mask) & (curves["repeat"] == repeat)]
        for name in ("train_loss", "test_accuracy"):
            points = told.Scalars(name)
            assert [point.step for point in points] == expected["epoch"].tolist()
            assert [point.value for point in points] == pytest.approx(expected[name].tolist())


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for MLflow, which notes what it is told."""

    class Client:
        told: list[tuple[str, Any]] = []  # noqa: RUF012 - one for the test

        def get_experiment_by_name(self, name: str) -> Any:
            return None if name == "new" else SimpleNamespace(experiment_id="known")

        def create_experiment(self, name: str) -> str:
            return f"made {name}"

        def create_run(self, experiment: str, run_name: str) -> Any:
            self.told.append((experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def log_batch(self, run: str, metrics: list[Any], params: list[Any]) -> None:
            self.told.append((run, [(m.key, m.value, m.step) for m in metrics] + [(p.key, p.value) for p in params]))

        def set_terminated(self, run: str) -> None:
            self.told.append(("ended", run))

    def metric(key: str, value: float, timestamp: int, step: int) -> Any:
        return SimpleNamespace(key=key, value=value, timestamp=timestamp, step=step)

    def param(key: str, value: str) -> Any:
        return SimpleNamespace(key=key, value=value)

    mlflow, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    mlflow.MlflowClient = Client  # type: ignore[attr-defined]
    entities.Metric, entities.Param = metric, param  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    Client.told = []
    return Client


def test_mlflow_is_told_a_run_a_trial(client: Any) -> None:
    tracker("mlflow", "new")("conv1-0.5", [trial()])
    begun, told, ended = client.told
    assert begun == ("made new", "conv1-0.5/7-1")
    assert told[0] == "r"
    assert {("train_loss", 1.0, 5), ("train_loss", 0.5, 10), ("test_loss", 1.0, 10), ("mask", "7"), ("seed", "3")} <= {
        *told[1]
    }
    assert not [one for one in told[1] if one[0].startswith("validation")]
    assert ended == ("ended", "r")
    client.told.clear()
    tracker("mlflow", "old")("c", [trial()])
    assert client.told[0] == ("known", "c/7-1")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_that_is_not_installed_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SpecError, match=rf"`log_to` {name} needs it installed: pip install 'trueoracle\[{name}\]'"):
        tracker(name, "any")
