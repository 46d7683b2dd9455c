"""The experiment as one story: base network, masks, pruned losses, retraining, store."""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from time import monotonic

import torch
from torch import Tensor, nn

from trueoracle.criteria import importances, score
from trueoracle.data import Dataset
from trueoracle.executors import Executor, Stop
from trueoracle.fleet import Assignment, Backend, evaluated, forget_abandoned, train_alone
from trueoracle.nets import classes_of, cost, remove, state_bytes, weights_from_bytes
from trueoracle.oracle import Evaluator, PrunedLosses, evaluator
from trueoracle.search import Budget, Found, Hunt
from trueoracle.store import BaseRecord, CellRecord, Claim, MaskRecord, Piece, Status, Store, StudyRecord
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.predictors import Predictors
from trueoracle.study.retrain import Retraining, assignment_for, fleets_of, kept_answers, pieces_of
from trueoracle.study.searching import hunt_beside, question_of
from trueoracle.study.sharing import Sharing, sharing
from trueoracle.study.survey import part_of, survey
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.folders import checkpoint_folder
from trueoracle.words.progress import Progress
from trueoracle.words.trial import Outcome, Trial


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
    record = StudyRecord(digest=plan.digest, name=plan.spec.name, spec=json.dumps(plan.spec.facts()))
    kept = store.add_study(record)
    if kept.name != record.name:
        progress.say(f"this study is kept already under the name `{kept.name}`")
    try:
        if store.status(plan.digest, plan.trials).left:
            store.put_cells(plan.digest, _cell_records(plan))
            with sharing(store, plan.digest, progress) as ours:
                _conducted(plan, data, store, executor, progress, backend, ours)
    except KeyboardInterrupt:
        raise Paused from None
    return store.status(plan.digest, plan.trials)


def _conducted(
    plan: Plan, data: Dataset, store: Store, executor: Executor, progress: Progress, backend: Backend, ours: Sharing
) -> None:
    """The part of one worker, stage after stage: none begins before the one before it is done, by whichever workers."""
    ours.stage(
        "base networks",
        missing=lambda: [
            Piece(cell=number) for number in range(len(plan.nets)) if store.base(plan.digest, number) is None
        ],
        work=lambda piece, _stop: _make_base(plan, piece.cell, data, backend, progress),
        keep=lambda claim, record: _kept_base(store, plan, claim, record),
    )
    bases = [_base(plan, number, store, data) for number in range(len(plan.nets))]
    made = [assignment_for(cell, plan.spec.retrain, plan, bases, data, backend) for cell in plan.cells]
    survey = Surveying(plan=plan, bases=bases, data=data, store=store, executor=executor, progress=progress)
    ours.stage("masks", survey.missing, survey.work, survey.keep)
    ours.stage(
        "searches",
        missing=lambda: [Piece(cell=cell.index) for cell in plan.cells if _unsearched(plan, cell, store)],
        work=lambda piece, _stop: _search(plan, plan.cells[piece.cell], bases, data, store, executor, progress),
        keep=lambda claim, _: store.settle(claim),
    )
    cells = tuple(_searched(plan, cell, store) for cell in plan.cells)
    predictors = Predictors(
        plan=plan, bases=bases, data=data, store=store, executor=executor, progress=progress, backend=backend
    )
    ours.stage(
        "predictors",
        missing=lambda: [Piece(cell=cell.index) for cell in cells],
        work=lambda piece, _stop: predictors.measure(cells[piece.cell]),
        keep=lambda claim, _: store.settle(claim),
    )
    _retrain(replace(plan, cells=cells), bases, made, survey.paths, data, store, executor, progress, ours)


def _kept_base(store: Store, plan: Plan, claim: Claim, record: BaseRecord) -> bool:
    store.put_base(plan.digest, record)
    return store.settle(claim)


def _base(plan: Plan, number: int, store: Store, data: Dataset) -> nn.Module:
    """A base network as the store keeps it."""
    record = store.base(plan.digest, number)
    assert record is not None
    if record.data_fingerprint != data.fingerprint:
        raise StoreError(
            f"the study was begun on other data than `{plan.spec.data}` holds now "
            f"(fingerprint {record.data_fingerprint[:12]}, not {data.fingerprint[:12]})"
        )
    net = plan.nets[number]
    weights_from_bytes(net, record.weights, "of the stored base network")
    return net.to(data.device)


def _make_base(plan: Plan, number: int, data: Dataset, backend: Backend, progress: Progress) -> BaseRecord:
    """A base network: given weights, or trained as a fleet of one."""
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


def _cell_records(plan: Plan) -> Iterator[CellRecord]:
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


@dataclass(frozen=True, kw_only=True)
class Surveying:
    """The pruned train loss of every mask in play that the store does not have yet, and what criteria say of it.

    A piece is as many masks of a cell as the oracle takes at once. `paths` says how, with the reason where there is one.
    """

    plan: Plan
    bases: Sequence[nn.Module]
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    paths: list[str] = field(default_factory=list)
    oracles: dict[int, Evaluator] = field(default_factory=dict)

    def missing(self) -> Iterator[Piece]:
        """The pieces of all cells."""
        for cell in self.plan.cells:
            known = self.store.masks(self.plan.digest, cell.index)
            if not known or any(rank not in known for rank in cell.ranks):
                step = self._oracle(cell).masks_at_once
                for start in range(0, len(cell.ranks), step):
                    stop = min(start + step, len(cell.ranks))
                    if not all(rank in known for rank in cell.ranks[start:stop]):
                        yield Piece(cell=cell.index, start=start, stop=stop)

    def work(self, piece: Piece, _stop: Stop) -> list[PrunedLosses]:
        """Evaluate those of the piece's masks that the store does not have."""
        cell = self.plan.cells[piece.cell]
        known = self.store.masks(self.plan.digest, cell.index)
        ranks = cell.ranks[piece.start : piece.stop]
        left = [rank for rank in ranks if rank not in known] if known else ranks
        if not left:
            return []
        images = part_of(self.data.train, self.plan.spec.oracle_images, self.plan.seed("oracle images", cell.base))
        path = self._oracle(cell)
        self.paths.append(path.path)
        population = len(self.data.train)
        return [*survey(path, left, images, self.executor, self.progress, what=cell.name, population=population)]

    def keep(self, claim: Claim, found: Sequence[PrunedLosses]) -> bool:
        """Store the masks; those that another stored first stay as they are, for they are the same."""
        cell = self.plan.cells[claim.piece.cell]
        importance = importances(
            self.bases[cell.base], {choice.site: self.plan.sites[choice.site] for choice in cell.space.sites}
        )
        for losses in found:
            records = _mask_records(cell, losses.ranks, losses, importance, searched=False)
            self.store.put_masks(self.plan.digest, records, cell.digits)
        return self.store.settle(claim)

    def _oracle(self, cell: PlannedCell) -> Evaluator:
        if cell.index not in self.oracles:
            self.oracles.clear()  # one at a time: some are large
            self.oracles[cell.index] = evaluator(
                self.bases[cell.base], cell.space, self.plan.shape, self.plan.spec.removal, progress=self.progress
            )
        return self.oracles[cell.index]


def _unsearched(plan: Plan, cell: PlannedCell, store: Store) -> bool:
    return cell.search is not None and len(store.searched(plan.digest, cell.index)) < cell.search.keep


def _searched(plan: Plan, cell: PlannedCell, store: Store) -> PlannedCell:
    """The cell with the masks that its search kept."""
    return cell if cell.search is None else replace(cell, found=tuple(store.searched(plan.digest, cell.index)))


def _search(
    plan: Plan,
    cell: PlannedCell,
    bases: Sequence[nn.Module],
    data: Dataset,
    store: Store,
    executor: Executor,
    progress: Progress,
) -> None:
    """Search, and store the masks to keep. What is evaluated already is known; a kill before the end has it begun anew."""
    if cell.search is None or not _unsearched(plan, cell, store):
        return
    base = bases[cell.base]
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
    places = [place for place in found.order if found.ranks[place] not in set(cell.drawn or ())][: cell.search.keep]
    if len(places) < cell.search.keep:
        raise SpecError(
            f"the search of cell `{cell.name}` found {len(places)} masks beside the drawn ones, but `keep` is "
            f"{cell.search.keep}: give it more `evaluations`"
        )
    importance = importances(base, {choice.site: plan.sites[choice.site] for choice in cell.space.sites})
    best = found.only(sorted(places, key=found.ranks.__getitem__))
    store.put_masks(plan.digest, _mask_records(cell, best.ranks, best, importance, searched=True), cell.digits)


def _mask_records(
    cell: PlannedCell,
    ranks: Sequence[int],
    losses: PrunedLosses | Found,
    importance: Mapping[str, dict[str, Tensor]],
    *,
    searched: bool,
) -> list[MaskRecord]:
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
            searched=searched,
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
    ours: Sharing,
) -> None:
    """Every trial that is not settled yet, in fleets; those of a fleet are stored together."""
    left = store.status(plan.digest, plan.trials).left
    settled = cache(lambda: store.settled(plan.digest))  # asked once the pieces are listed: who holds one has it alone
    run = store.begin_run(plan.digest, executor.workers, {**versions(bases[0], made, paths), **_normalised(plan)})
    recipe = plan.spec.retrain
    before = sum(one.trials for one in store.runs(plan.digest))
    told = 0
    with (
        progress.task("retraining", left, "trials") as settle,
        progress.task("retraining", left * recipe.epochs, "model-epochs") as advance,
    ):
        retraining = Retraining(plan=plan, bases=bases, data=data, progress=progress, advance=advance, recipe=recipe)

        def work(piece: Piece, stop: Stop) -> list[Trial]:
            tasks = fleets_of(plan, piece, made[piece.cell], settled())
            return [trial for task in tasks for trial in retraining.run(task, stop)]

        def keep(claim: Claim, trials: list[Trial]) -> bool:
            nonlocal told
            held = store.put_trials(plan.digest, trials, plan.cells[claim.piece.cell].digits, run, claim=claim)
            now = sum(one.trials for one in store.runs(plan.digest)) - before  # by all workers
            settle(now - told)
            told = now
            advance(sum(recipe.epochs - len(trial.curve) for trial in trials))
            return held

        ours.stage("retraining", lambda: pieces_of(plan, made, store.settled(plan.digest)), work, keep, executor.run)


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
