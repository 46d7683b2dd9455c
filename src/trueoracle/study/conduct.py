"""The experiment as one story: base network, masks, pruned losses, retraining, store."""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from time import monotonic

import torch
from torch import nn

from trueoracle.criteria import importances, score
from trueoracle.data import Dataset
from trueoracle.errors import StoreError
from trueoracle.fleet import Stopped, figures_of, train
from trueoracle.mask import Mask
from trueoracle.nets import cost, remove, state_bytes, weights_from_bytes
from trueoracle.oracle import evaluator
from trueoracle.progress import Advance, Progress
from trueoracle.seeding import derive_seed
from trueoracle.store import BaseRecord, CellRecord, MaskRecord, Status, Store, StudyRecord
from trueoracle.study.executor import Executor, Stop
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.survey import survey
from trueoracle.trial import Figures, Outcome, Trial, final_figures


class Paused(Exception):
    """The user interrupted the study; everything finished so far is in the store."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A trial to be run."""

    cell: PlannedCell
    mask: Mask
    repeat: int


def conduct(plan: Plan, data: Dataset, store: Store, executor: Executor, progress: Progress) -> Status:
    """Run what is left of the study, where the data lies, and return its status; `Paused` if interrupted.

    A finished study is left alone. Nothing that finished is ever run again, so this is also how to resume.
    """
    torch.set_num_threads(1)
    record = StudyRecord(digest=plan.digest, name=plan.spec.name, spec=json.dumps(plan.spec.facts()))
    kept = store.add_study(record)
    if kept.name != record.name:
        progress.say(f"this study is kept already under the name `{kept.name}`")
    try:
        if store.status(plan.digest, plan.trials).left:
            store.put_cells(plan.digest, _cell_records(plan))
            base = _base(plan, store, data, progress)
            for cell in plan.cells:
                _evaluate_masks(plan, cell, base, data, store, executor, progress)
            _retrain(plan, base, data, store, executor, progress)
    except KeyboardInterrupt:
        raise Paused from None
    return store.status(plan.digest, plan.trials)


def _base(plan: Plan, store: Store, data: Dataset, progress: Progress) -> nn.Module:
    """The base network: from the store, else given weights, else trained as a fleet of one."""
    record = store.base(plan.digest)
    if record is None:
        record = _make_base(plan, data, progress)
        store.put_base(plan.digest, record)
    if record.data_fingerprint != data.fingerprint:
        raise StoreError(
            f"the study was begun on other data than `{plan.spec.data}` holds now "
            f"(fingerprint {record.data_fingerprint[:12]}, not {data.fingerprint[:12]})"
        )
    weights_from_bytes(plan.net, record.weights, "of the stored base network")
    return plan.net.to(data.device)


def _make_base(plan: Plan, data: Dataset, progress: Progress) -> BaseRecord:
    begin = monotonic()
    net = plan.net.to(data.device)
    recipe = plan.spec.train
    if plan.spec.base_weights is None and recipe is not None:
        with progress.task("training the base network", recipe.epochs, "epochs") as advance:
            trained = train(net, data, recipe, _seed(plan, "base order"), on_epoch=lambda: advance(1))
        net = trained.net
        if trained.outcome is not Outcome.FINISHED:
            raise StoreError(f"the base network {trained.outcome.value}: lower `train.lr`")
    figures, costs = figures_of(net, data), cost(net, plan.shape)
    return BaseRecord(
        weights=state_bytes(net),
        train_loss=figures.train_loss,
        train_accuracy=figures.train_accuracy,
        test_loss=figures.test_loss,
        test_accuracy=figures.test_accuracy,
        parameters=costs.parameters,
        macs=costs.macs,
        data_fingerprint=data.fingerprint,
        seconds=monotonic() - begin,
    )


def _cell_records(plan: Plan) -> Iterator[CellRecord]:
    for cell in plan.cells:
        costs = cost(remove(plan.net, next(cell.masks()), plan.shape), plan.shape)
        yield CellRecord(
            index=cell.index,
            name=cell.name,
            space=cell.space.count,
            masks=cell.count,
            parameters=costs.parameters,
            macs=costs.macs,
        )


def _evaluate_masks(
    plan: Plan,
    cell: PlannedCell,
    base: nn.Module,
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
) -> None:
    """The pruned train loss of every mask in play that the store does not have yet, and what criteria say of it."""
    known = store.masks(plan.digest, cell.index)
    left = [rank for rank in cell.ranks if rank not in known] if known else cell.ranks
    if not left:
        return
    importance = importances(base, tuple(choice.site for choice in cell.space.sites))
    path = evaluator(base, cell.space, plan.shape, progress=progress)
    for found in survey(path, left, data.train, executor, progress, what=cell.name):
        masks = map(cell.space.unrank, found.ranks)
        records = [
            MaskRecord(
                cell=cell.index,
                rank=mask.rank,
                pruned=mask.pruned_json,
                loss=float(loss),
                accuracy=float(accuracy),
                scores={name: score(mask, units) for name, units in importance.items()},
            )
            for mask, loss, accuracy in zip(masks, found.loss_M, found.accuracy_M, strict=True)
        ]
        store.put_masks(plan.digest, records, cell.digits)


def _retrain(plan: Plan, base: nn.Module, data: Dataset, store: Store, executor: Executor, progress: Progress) -> None:
    """Every trial that is not settled yet."""
    settled = store.settled(plan.digest)
    digits = {cell.index: cell.digits for cell in plan.cells}
    left = plan.trials - len(settled)
    run = store.begin_run(plan.digest, executor.workers, versions(base))
    epochs = plan.spec.retrain.epochs
    with progress.task(f"retraining {left} pruned networks", left * epochs, "epochs") as advance:
        work = partial(_run_trial, plan, base, data, advance)
        for trial in executor.run(work, _tasks(plan, settled)):
            store.put_trial(plan.digest, trial, digits[trial.cell], run)
            advance(epochs - len(trial.curve))


def _tasks(plan: Plan, settled: set[tuple[int, int, int]]) -> Iterator[_Task]:
    for cell in plan.cells:
        for mask in cell.masks():
            for repeat in range(plan.spec.repeats):
                if (cell.index, mask.rank, repeat) not in settled:
                    yield _Task(cell=cell, mask=mask, repeat=repeat)


def _run_trial(plan: Plan, base: nn.Module, data: Dataset, advance: Advance, task: _Task, stop: Stop) -> Trial:
    """Remove, retrain, sum up. What goes wrong with one trial is its outcome and stops no other."""
    begin = monotonic()
    seed = _seed(plan, "retraining order", task.repeat)
    outcome, error = Outcome.FAILED, ""
    curve: tuple[Figures, ...] = ()
    try:
        pruned = remove(base, task.mask, plan.shape)
        trained = train(pruned, data, plan.spec.retrain, seed, stop, on_epoch=lambda: advance(1))
        outcome, curve = trained.outcome, trained.curve
    except Stopped:
        raise
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    return Trial(
        cell=task.cell.index,
        mask=task.mask.rank,
        repeat=task.repeat,
        seed=seed,
        outcome=outcome,
        curve=curve,
        final=final_figures(curve, plan.spec.final) if outcome is Outcome.FINISHED else None,
        seconds=monotonic() - begin,
        error=error,
    )


def versions(base: nn.Module) -> dict[str, str]:
    """What the trials were made with, for the report."""
    return {
        "trueoracle": version("trueoracle"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": next(base.parameters()).device.type,
    }


def _seed(plan: Plan, purpose: str, index: int = 0) -> int:
    return derive_seed(plan.digest, purpose, index)
