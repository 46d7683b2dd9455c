"""The experiment as one story: base networks, masks, pruned losses, other predictors, retraining; all in the store."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from time import monotonic

import torch
from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Executor, Stop
from trueoracle.fleet import Assignment, Backend, forget_abandoned
from trueoracle.nets import cost, prune
from trueoracle.space import MaskSpace, WeightSpace
from trueoracle.store import CellRecord, Claim, Piece, Status, Store, StudyRecord
from trueoracle.study.bases import Bases
from trueoracle.study.masks import Masks
from trueoracle.study.plan import Plan
from trueoracle.study.predictors import Predictors
from trueoracle.study.retrain import Retraining, assignment_for, fleets_of, pieces_of
from trueoracle.study.sharing import Sharing, sharing
from trueoracle.words.folders import checkpoint_folder
from trueoracle.words.progress import Progress
from trueoracle.words.release import release
from trueoracle.words.trial import Trial

Log = Callable[[str, Sequence[Trial]], None]

_LOOK_SECONDS = 0.5


class Paused(Exception):
    """The user interrupted the study; everything finished so far is in the store."""


def conduct(
    plan: Plan,
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
    backend: Backend = "auto",
    log: Log = lambda _cell, _trials: None,
) -> Status:
    """Run what is left of the study on its data (see `study_data`), where that lies; `Paused` if interrupted.

    `log` is told the name of a cell and trials of it that this worker has stored.

    A finished study is left alone. Nothing that finished is ever run again, so this is also how to resume.
    """
    torch.set_num_threads(1)
    forget_abandoned(checkpoint_folder())
    record = record_of(plan)
    kept = store.add_study(record)
    if kept.name != record.name:
        progress.say(f"this study is kept already under the name `{kept.name}`")
    try:
        if store.status(plan.digest, plan.trials).left:
            store.put_cells(plan.digest, cell_records(plan))
            with sharing(store, plan.digest) as ours:
                _conducted(plan, data, store, executor, progress, backend, log, ours)
    except KeyboardInterrupt:
        raise Paused from None
    return store.status(plan.digest, plan.trials)


def _conducted(
    plan: Plan,
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
    backend: Backend,
    log: Log,
    ours: Sharing,
) -> None:
    """The part of one worker, stage after stage: none begins before the one before it is done, by whichever workers."""
    bases = Bases(plan=plan, data=data, store=store, progress=progress, backend=backend).take_part(ours)
    made = [assignment_for(cell, plan.spec.retrain, plan, bases, data, backend) for cell in plan.cells]
    masks = Masks(plan=plan, bases=bases, data=data, store=store, executor=executor, progress=progress)
    cells = masks.take_part(ours)
    predictors = Predictors(
        plan=plan, cells=cells, bases=bases, data=data, store=store, executor=executor, progress=progress,
        backend=backend,
    )  # fmt: skip
    predictors.take_part(ours)
    _retrain(replace(plan, cells=cells), bases, made, masks.paths, data, store, executor, progress, log, ours)


def record_of(plan: Plan) -> StudyRecord:
    """The study as the store keeps it."""
    return StudyRecord(digest=plan.digest, name=plan.spec.name, spec=json.dumps(plan.spec.facts()))


def cell_records(plan: Plan) -> Iterator[CellRecord]:
    """The cells of all base networks, with what a pruned network of each costs."""
    for cell in plan.cells:
        costs = cost(prune(plan.nets[cell.base], cell.example, plan.sites), plan.shape)
        yield CellRecord(
            index=cell.index,
            base=cell.base,
            name=cell.name,
            sites={site.site: (site.units, site.units - site.pruned) for site in cell.space.sites},
            space=cell.space.count,
            masks=cell.count,
            parameters=costs.parameters,
            macs=costs.macs,
            of_weights=isinstance(cell.space, WeightSpace),
        )


def _retrain(
    plan: Plan,
    bases: Sequence[nn.Module],
    made: Sequence[Assignment],
    paths: Sequence[str],
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
    log: Log,
    ours: Sharing,
) -> None:
    """Every trial that is not settled yet, in fleets; those of a fleet are stored together."""
    left = store.status(plan.digest, plan.trials).left
    settled = cache(lambda: store.settled(plan.digest))  # asked once the pieces are listed: who holds one has it alone
    made_with = {**versions(bases[0], made, paths), **_normalised(plan)}
    run = store.begin_run(plan.digest, executor.workers, made_with, ours.worker)
    recipe = plan.spec.retrain
    before, told, next_look = _stored(store, plan), 0, monotonic()
    with (
        progress.task("retraining", left, "trials") as settle,
        progress.task("retraining", left * recipe.epochs, "model-epochs") as advance,
    ):
        retraining = Retraining(plan=plan, bases=bases, data=data, progress=progress, advance=advance, recipe=recipe)

        def tell() -> None:
            """What all workers have stored; not after every fleet, of which there may be hundreds a second."""
            nonlocal told, next_look
            now = _stored(store, plan) - before
            settle(now - told)
            told, next_look = now, monotonic() + _LOOK_SECONDS

        def work(piece: Piece, stop: Stop) -> list[Trial]:
            tasks = fleets_of(plan, piece, made[piece.cell], settled())
            return [trial for task in tasks for trial in retraining.run(task, stop)]

        def keep(claim: Claim, trials: list[Trial]) -> None:
            cell = plan.cells[claim.piece.cell]
            if store.put_trials(plan.digest, trials, cell.digits, run, claim=claim):
                log(cell.name, trials)
            if monotonic() >= next_look:
                tell()
            advance(sum(recipe.epochs - trial.epochs for trial in trials))

        ours.stage("retraining", lambda: pieces_of(plan, made, store.settled(plan.digest)), work, keep, executor.run)
        tell()


def _stored(store: Store, plan: Plan) -> int:
    """How many trials of the study have been stored, by all workers and in all runs."""
    return sum(one.trials for one in store.runs(plan.digest))


def _normalised(plan: Plan) -> dict[str, str]:
    """For the report: where removal changes more than what the removed units did."""
    of_units = (cell.space for cell in plan.cells if isinstance(cell.space, MaskSpace))
    pruned = dict.fromkeys(choice.site for space in of_units for choice in space.sites)
    sites = [site for name in pruned if (site := plan.sites[name]).normalised_by]
    if not sites:
        return {}
    told = "; ".join(f"{site.name} by {', '.join(dict.fromkeys(map(str, site.normalised_by)))}" for site in sites)
    return {"normalised_over_pruned_units": f"{told}: without some units the others are normalised anew"}


def versions(base: nn.Module, made: Sequence[Assignment], paths: Sequence[str]) -> dict[str, str]:
    """What the trials were made with, for the report; the backend with the reason for it.

    `paths` are the oracle's in this run; masks that the store had before were evaluated by an earlier one.
    """
    return {
        "oracle_path": "; ".join(dict.fromkeys(paths)) or "none: an earlier run evaluated the masks",
        "backend": ", ".join(dict.fromkeys(one.backend for one in made)),
        "backend_reason": " ".join(dict.fromkeys(one.reason for one in made)),
        "trueoracle": release(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": next(base.parameters()).device.type,
    }
