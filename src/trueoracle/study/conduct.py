"""The experiment as one story: base network, masks, pruned losses, retraining, store."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, replace
from importlib.metadata import version
from time import monotonic

import torch
from torch import Tensor, nn

from trueoracle.criteria import importances, score
from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.fleet import Assignment, Backend, evaluated, forget_abandoned, train_alone
from trueoracle.nets import classes_of, cost, remove, state_bytes, weights_from_bytes
from trueoracle.oracle import PrunedLosses, evaluator
from trueoracle.search import Budget, Found, Hunt
from trueoracle.store import WEIGHT, BaseRecord, CellRecord, MaskRecord, Status, Store, StudyRecord
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.predictors import Predictors
from trueoracle.study.retrain import Retraining, assignment_for, fleet_tasks, kept_answers
from trueoracle.study.searching import hunt_beside, question_of
from trueoracle.study.strata import first_phase, tail
from trueoracle.study.survey import part_of, survey
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.folders import checkpoint_folder
from trueoracle.words.progress import Progress
from trueoracle.words.trial import Outcome


class Paused(Exception):
    """The user interrupted the study; everything finished so far is in the store."""


def conduct(
    plan: Plan, data: Dataset, store: Store, executor: Executor, progress: Progress, backend: Backend = "auto"
) -> Status:
    """Run what is left of the study on its data (see `study_data`), where that lies; `Paused` if interrupted.

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
            bases = [_base(plan, number, store, data, backend, progress) for number in range(plan.spec.base_networks)]
            made = [assignment_for(cell, plan.spec.retrain, plan, bases, data, backend) for cell in plan.cells]
            predictors = Predictors(
                plan=plan, bases=bases, data=data, store=store, executor=executor, progress=progress, backend=backend
            )
            paths, cells = [], []
            for cell in plan.cells:
                paths += _evaluate_masks(plan, cell, bases[cell.base], data, store, executor, progress)
                stratified = _with_tail(plan, cell, bases[cell.base], data, store, executor, progress)
                cells.append(_searched(plan, stratified, bases[cell.base], data, store, executor, progress))
                predictors.measure(cells[-1])
            _retrain(replace(plan, cells=tuple(cells)), bases, made, paths, data, store, executor, progress)
    except KeyboardInterrupt:
        raise Paused from None
    return store.status(plan.digest, plan.trials)


def record_of(plan: Plan) -> StudyRecord:
    """The study as the store keeps it."""
    return StudyRecord(digest=plan.digest, name=plan.spec.name, spec=json.dumps(plan.spec.facts()))


def _base(plan: Plan, number: int, store: Store, data: Dataset, backend: Backend, progress: Progress) -> nn.Module:
    """A base network: from the store, else given weights, else trained as a fleet of one."""
    record = store.base(plan.digest, number)
    if record is None:
        record = make_base(plan, number, data, backend, progress)
        store.put_base(plan.digest, record)
    if record.data_fingerprint != data.fingerprint:
        raise StoreError(
            f"the study was begun on other data than `{plan.spec.data}` holds now "
            f"(fingerprint {record.data_fingerprint[:12]}, not {data.fingerprint[:12]})"
        )
    net = plan.nets[number]
    weights_from_bytes(net, record.weights, "of the stored base network")
    return net.to(data.device)


def make_base(plan: Plan, number: int, data: Dataset, backend: Backend, progress: Progress) -> BaseRecord:
    """A base network trained, or with the weights that are given, evaluated; nothing is stored."""
    begin = monotonic()
    net = plan.nets[number].to(data.device)
    recipe = plan.spec.train
    if plan.spec.base_weights is None and recipe is not None:
        which = "the base network" if len(plan.nets) == 1 else f"base network {number + 1} of {len(plan.nets)}"
        with progress.task(f"training {which}", recipe.epochs, "epochs") as advance:
            seed = plan.seed("base order", number)
            trained = train_alone(
                net, data, recipe, seed, on_epoch=advance, backend=backend, progress=progress,
                checkpoints=checkpoint_folder(),
            )  # fmt: skip
        net = trained.net
        if trained.outcome is not Outcome.FINISHED:
            raise StoreError(f"the base network {trained.outcome.value}: lower `train.lr`")
    now, costs = evaluated(net, data), cost(net, plan.shape)
    return BaseRecord(
        base=number,
        weights=state_bytes(net),
        **asdict(now.figures),
        answers=kept_answers(now.answers, plan.spec),
        parameters=costs.parameters,
        macs=costs.macs,
        classes=classes_of(net, plan.shape),
        data_fingerprint=data.fingerprint,
        seconds=monotonic() - begin,
    )


def cell_records(plan: Plan) -> Iterator[CellRecord]:
    """The cells of all base networks, with what a pruned network of each costs."""
    for cell in plan.cells:
        costs = cost(remove(plan.nets[cell.base], cell.example, plan.sites), plan.shape)
        yield CellRecord(
            index=cell.index,
            base=cell.base,
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
) -> list[str]:
    """The pruned train loss of every mask in play that the store does not have yet, and what criteria say of it.

    Returns the oracle's path, with its reason where it has one; nothing where the store has all masks.
    """
    known = store.masks(plan.digest, cell.index)
    left = [rank for rank in cell.ranks if rank not in known] if known else cell.ranks
    if not left:
        return []
    importance = importances(base, {choice.site: plan.sites[choice.site] for choice in cell.space.sites})
    paths: dict[str, None] = {}
    for found in _losses(plan, cell, base, data, left, executor, progress):
        records = _mask_records(cell, found.ranks, found, importance, chosen=cell.named)
        store.put_masks(plan.digest, records, cell.digits)
        paths[found.path] = None
    return list(paths)


def _losses(
    plan: Plan,
    cell: PlannedCell,
    base: nn.Module,
    data: Dataset,
    ranks: Sequence[int],
    executor: Executor,
    progress: Progress,
) -> Iterator[PrunedLosses]:
    """The pruned train losses of these masks, a group after another."""
    path = evaluator(base, cell.space, plan.shape, plan.spec.removal, progress=progress)
    images = part_of(data.train, plan.spec.oracle_images, plan.seed("oracle images", cell.base))
    return survey(path, ranks, images, executor, progress, what=cell.name, population=len(data.train))


def _with_tail(
    plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset, store: Store, executor: Executor, progress: Progress
) -> PlannedCell:
    """The cell with the masks that it draws stratified over the loss: from the store, else drawn now.

    Of the masks that are evaluated for that only those drawn are kept, so that a kill in between has all evaluated again.
    """
    if cell.tail is None or cell.drawn is None:
        return cell
    kept = store.tail(plan.digest, cell.index)
    if not kept:
        seed, known = plan.seed(f"tail of cell {cell.name}", cell.base), store.evaluated(plan.digest, cell.index)
        others = sorted(set(first_phase(cell.space, cell.drawn, cell.tail.of, seed)) - set(cell.drawn))
        judged = list(_losses(plan, cell, base, data, others, executor, progress))
        losses = {rank: float(loss) for part in judged for rank, loss in zip(part.ranks, part.loss_M, strict=True)}
        kept, weight = tail(
            {**losses, **{rank: known[rank][0] for rank in cell.drawn}}, cell.drawn, cell.tail.masks, seed
        )
        importance = importances(base, {choice.site: plan.sites[choice.site] for choice in cell.space.sites})
        records = [
            replace(record, weight=weight[record.rank])
            for part in judged
            for record in _mask_records(cell, part.ranks, part, importance, chosen={*kept})
            if record.searched
        ]
        of_drawn = {rank: weight[rank] for rank in cell.drawn}
        store.add_scores(plan.digest, cell.index, WEIGHT, of_drawn, cell.digits)
        store.put_masks(plan.digest, records, cell.digits)
    return replace(cell, found=tuple(kept))


def _searched(
    plan: Plan, cell: PlannedCell, base: nn.Module, data: Dataset, store: Store, executor: Executor, progress: Progress
) -> PlannedCell:
    """The cell with the masks that its search keeps: from the store, else searched for now.

    The search knows the masks that are evaluated already. It is work in flight: a kill before its end has it begun anew.
    """
    if cell.search is None:
        return cell
    kept = store.searched(plan.digest, cell.index)
    if len(kept) < cell.search.keep:
        question = question_of(
            base, cell.space, data, progress,
            images=part_of(data.train, plan.spec.oracle_images, plan.seed("oracle images", cell.base)),
            removal=plan.spec.removal,
        )  # fmt: skip
        hunt = Hunt(
            method=cell.search.method,
            budget=Budget(evaluations=cell.search.evaluations),
            seed=plan.seed(f"search of cell {cell.name}", cell.base),
        )
        found = hunt_beside(store.evaluated(plan.digest, cell.index), question, hunt, executor, progress)
        progress.say(f"{cell.name}: {found.sentence}")
        there = {*(cell.drawn or ()), *cell.found}
        places = [place for place in found.order if found.ranks[place] not in there][: cell.search.keep]
        if len(places) < cell.search.keep:
            raise SpecError(
                f"the search of cell `{cell.name}` found {len(places)} masks beside the drawn ones, but `keep` is "
                f"{cell.search.keep}: give it more `evaluations`"
            )
        importance = importances(base, {choice.site: plan.sites[choice.site] for choice in cell.space.sites})
        best = found.only(sorted(places, key=found.ranks.__getitem__))
        store.put_masks(
            plan.digest, _mask_records(cell, best.ranks, best, importance, chosen={*best.ranks}), cell.digits
        )
        kept = list(best.ranks)
    return replace(cell, found=(*cell.found, *kept))


def _mask_records(
    cell: PlannedCell,
    ranks: Sequence[int],
    losses: PrunedLosses | Found,
    importance: Mapping[str, dict[str, Tensor]],
    *,
    chosen: AbstractSet[int],
) -> list[MaskRecord]:
    """`chosen` masks, by rank, are none of a random sample."""
    rows = zip(ranks, losses.loss_M, losses.accuracy_M, losses.standard_error_M, strict=True)
    return [
        MaskRecord(
            cell=cell.index,
            rank=mask.rank,
            pruned=mask.pruned_json,
            loss=float(loss),
            accuracy=float(accuracy),
            standard_error=float(error),
            scores={name: score(mask, units) for name, units in importance.items()},
            searched=mask.rank in chosen,
        )
        for mask, loss, accuracy, error in ((cell.space.unrank(rank), *facts) for rank, *facts in rows)
    ]


def _retrain(
    plan: Plan,
    bases: Sequence[nn.Module],
    made: Sequence[Assignment],
    paths: Sequence[str],
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
) -> None:
    """Every trial that is not settled yet, in fleets; those of a fleet are stored together."""
    settled = store.settled(plan.digest)
    digits = {cell.index: cell.digits for cell in plan.cells}
    left = plan.trials - len(settled)
    run = store.begin_run(plan.digest, executor.workers, {**versions(bases[0], made, paths), **_normalised(plan)})
    recipe = plan.spec.retrain
    with (
        progress.task("retraining", left, "trials") as settle,
        progress.task("retraining", left * recipe.epochs, "model-epochs") as advance,
    ):
        retraining = Retraining(plan=plan, bases=bases, data=data, progress=progress, advance=advance, recipe=recipe)
        for trials in executor.run(retraining.run, fleet_tasks(plan, made, settled)):
            store.put_trials(plan.digest, trials, digits[trials[0].cell], run)
            settle(len(trials))
            advance(sum(recipe.epochs - len(trial.curve) for trial in trials))


def _normalised(plan: Plan) -> dict[str, str]:
    """For the report: where removal changes more than what the removed units did."""
    pruned = dict.fromkeys(choice.site for cell in plan.cells for choice in cell.space.sites)
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
        "trueoracle": version("trueoracle"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": next(base.parameters()).device.type,
    }
