"""Curves of trials into the tracker that a user has: TensorBoard (`trueoracle[tensorboard]`) or MLflow (`trueoracle[mlflow]`).

A trial is a run of the tracker, written once its fleet is stored. The store stays the truth: what is written here is never read.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from time import time
from typing import Any

from trueoracle.words.errors import SpecError, unknown
from trueoracle.words.trial import Figures, Trial

Log = Callable[[str, Sequence[Trial]], None]
"""Told the name of a cell and some of its trials, once they are stored."""


def check_tracker(name: str | None) -> None:
    """`SpecError` where there is no such tracker, or it is not installed."""
    if name is not None and name not in _TRACKERS:
        raise SpecError(unknown("tracker", name, _TRACKERS))
    if name is not None:
        _module(name)


def tracker(name: str | None, study: str) -> Log:
    """What writes a study's trials to the tracker of this name; nothing for None."""
    check_tracker(name)
    return _TRACKERS[name](study) if name is not None else lambda _cell, _trials: None


def _tensorboard(study: str) -> Log:
    """A folder a trial below `runs`, where TensorBoard looks: `tensorboard --logdir runs`."""
    from torch.utils.tensorboard import SummaryWriter

    def log(cell: str, trials: Sequence[Trial]) -> None:
        for trial in trials:
            with SummaryWriter(Path("runs") / study / cell / f"{trial.mask}-{trial.repeat}") as run:
                for name, epoch, value in _numbers(trial):
                    run.add_scalar(name, value, epoch)

    return log


def _mlflow(study: str) -> Log:
    """A run a trial, in an experiment of the study's name, on the server that MLFLOW_TRACKING_URI names."""
    client = _module("mlflow").MlflowClient()
    metric, param = (getattr(import_module("mlflow.entities"), name) for name in ("Metric", "Param"))
    known = client.get_experiment_by_name(study)
    experiment = client.create_experiment(study) if known is None else known.experiment_id

    def log(cell: str, trials: Sequence[Trial]) -> None:
        for trial in trials:
            now = int(1000 * time())
            run = client.create_run(experiment, run_name=f"{cell}/{trial.mask}-{trial.repeat}").info.run_id
            facts = {
                "cell": cell,
                "mask": trial.mask,
                "repeat": trial.repeat,
                "seed": trial.seed,
                "outcome": trial.outcome.value,
            }
            client.log_batch(
                run,
                metrics=[metric(name, value, now, epoch) for name, epoch, value in _numbers(trial)],
                params=[param(name, str(value)) for name, value in facts.items()],
            )
            client.set_terminated(run)

    return log


_TRACKERS: dict[str, Callable[[str], Log]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}


def _numbers(trial: Trial) -> Iterator[tuple[str, int, float]]:
    """(name, epoch, value) of every point of a trial's curve."""
    for epoch, figures in trial.points:
        for name in Figures.__slots__:
            if (value := getattr(figures, name)) is not None:
                yield name, epoch, value


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise SpecError(f"`log_to` {name} needs it installed: pip install 'trueoracle[{name}]'") from None
