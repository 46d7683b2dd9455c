"""The experiment as one story: base network, masks, pruned losses, retraining, store."""

import json
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from time import monotonic

import torch
from torch import nn

from trueoracle.criteria import importances, score
from trueoracle.data import Dataset
from trueoracle.errors import StoreError
from trueoracle.fleet import Backend, Choice, figures_of, train_alone
from trueoracle.nets import cost, remove, state_bytes, weights_from_bytes
from trueoracle.oracle import evaluator
from trueoracle.progress import Progress
from trueoracle.seeding import derive_seed
from trueoracle.store import BaseRecord, CellRecord, MaskRecord, Status, Store, StudyRecord
from trueoracle.study.executor import Executor
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.retrain import Retraining, choices, fleet_tasks
from trueoracle.study.survey import survey
from trueoracle.trial import Outcome


class Paused(Exception):
    """The user interrupted the study; everything finished so far is in the store."""


def conduct(
    plan: Plan, data: Dataset, store: Store, executor: Executor, progress: Progress, backend: Backend = "auto"
) -> Status:
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
            base = _base(plan, store, data, backend, progress)
            for cell in plan.cells:
                _evaluate_masks(plan, cell, base, data, store, executor, progress)
            _retrain(plan, base, data, backend, store, executor, progress)
    except KeyboardInterrupt:
        raise Paused from None
    return store.status(plan.digest, plan.trials)


def _base(plan: Plan, store: Store, data: Dataset, backend: Backend, progress: Progress) -> nn.Module:
    """The base network: from the store, else given weights, else trained as a fleet of one."""
    record = store.base(plan.digest)
    if record is None:
        record = _make_base(plan, data, backend, progress)
        store.put_base(plan.digest, record)
    if record.data_fingerprint != data.fingerprint:
        raise StoreError(
            f"the study was begun on other data than `{plan.spec.data}` holds now "
            f"(fingerprint {record.data_fingerprint[:12]}, not {data.fingerprint[:12]})"
        )
    weights_from_bytes(plan.net, record.weights, "of the stored base network")
    return plan.net.to(data.device)


def _make_base(plan: Plan, data: Dataset, backend: Backend, progress: Progress) -> BaseRecord:
    begin = monotonic()
    net = plan.net.to(data.device)
    recipe = plan.spec.train
    if plan.spec.base_weights is None and recipe is not None:
        with progress.task("training the base network", recipe.epochs, "epochs") as advance:
            seed = derive_seed(plan.digest, "base order")
            trained = train_alone(net, data, recipe, seed, on_epoch=advance, backend=backend, progress=progress)
        net = trained.net
        if trained.outcome is not Outcome.FINISHED:
            raise StoreError(f"the base network {trained.outcome.value}: lower `train.lr`")
    figures, costs = figures_of(net, data), cost(net, plan.shape)
    return BaseRecord(
        base=0,
        weights=state_bytes(net),
        train_loss=figures.train_loss,
        train_accuracy=figures.train_accuracy,
        test_loss=figures.test_loss,
        test_accuracy=figures.test_accuracy,
        parameters=costs.parameters,
        macs=costs.macs,
        classes=plan.shape.classes,
        data_fingerprint=data.fingerprint,
        seconds=monotonic() - begin,
    )


def _cell_records(plan: Plan) -> Iterator[CellRecord]:
    for cell in plan.cells:
        costs = cost(remove(plan.net, next(cell.masks()), plan.shape), plan.shape)
        yield CellRecord(
            index=cell.index,
            base=0,
            name=cell.name,
            sites={site.site: (site.units, site.units - site.pruned) for site in cell.space.sites},
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
    path = evaluator(base, cell.space, plan.shape, plan.spec.removal, progress=progress)
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


def _retrain(
    plan: Plan,
    base: nn.Module,
    data: Dataset,
    backend: Backend,
    store: Store,
    executor: Executor,
    progress: Progress,
) -> None:
    """Every trial that is not settled yet, in fleets; those of a fleet are stored together."""
    settled = store.settled(plan.digest)
    digits = {cell.index: cell.digits for cell in plan.cells}
    left = plan.trials - len(settled)
    made = choices(plan, base, data, backend)
    run = store.begin_run(plan.digest, executor.workers, versions(base, made))
    epochs = plan.spec.retrain.epochs
    with (
        progress.task("retraining", left, "trials") as settle,
        progress.task("retraining", left * epochs, "model-epochs") as advance,
    ):
        retraining = Retraining(plan=plan, base=base, data=data, progress=progress, advance=advance)
        for trials in executor.run(retraining.run, fleet_tasks(plan, made, settled)):
            store.put_trials(plan.digest, trials, digits[trials[0].cell], run)
            settle(len(trials))
            advance(sum(epochs - len(trial.curve) for trial in trials))


def versions(base: nn.Module, made: Sequence[Choice]) -> dict[str, str]:
    """What the trials were made with, for the report; the backend with the reason for it."""
    return {
        "backend": ", ".join(dict.fromkeys(choice.backend for choice in made)),
        "backend_reason": " ".join(dict.fromkeys(choice.reason for choice in made)),
        "trueoracle": version("trueoracle"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": next(base.parameters()).device.type,
    }
