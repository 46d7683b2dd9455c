"""A selection from beginning to end: the dense network, candidates, waves of retraining, the choice, what it is held against."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Executor
from trueoracle.fleet import Backend, train_fleet
from trueoracle.nets import cost, prune, weights_from_bytes
from trueoracle.selection.budget import Budget, Purse
from trueoracle.selection.candidates import SHARE_OF_DRAWS, Candidates, Sources
from trueoracle.selection.ladder import Choice, Key, Ladder, Standing, first_masks
from trueoracle.selection.rivals import Rivals
from trueoracle.selection.rungs import rung_epochs, shortened
from trueoracle.selection.waves import Cut, Told, Waves
from trueoracle.store import BaseRecord, Store
from trueoracle.study import Paused, Plan, plan
from trueoracle.study.bases import make_base
from trueoracle.study.retrain import assignment_for
from trueoracle.study.reuse import known_base
from trueoracle.study.survey import part_of
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Progress
from trueoracle.words.selection import Candidate, Rival, Rung, Selected
from trueoracle.words.spec import StudySpec
from trueoracle.words.trial import FinalProtocol

_EVALUATIONS_AN_EPOCH = 3  # a training epoch is a forward and a backward pass, about three evaluations
_LEAST_EVALUATIONS = 16
_SHARE_OF_SEARCH = 0.1  # of the budget, where evaluations are not next to free


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be selected. The cells of `template` compete; its `retrain` is the full recipe.

    `compare` says what the choice is held against: nothing, one mask of each rival, or as many as cost the same. `limit` is what its ways to prune were made to meet, in words. `net`
    is the network where it was given as a module.
    """

    name: str
    template: StudySpec
    budget: Budget
    compare: str = "one"
    limit: str = ""
    net: nn.Module | None = None


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """What a selection works with."""

    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    backend: Backend


@dataclass(kw_only=True)
class _Course:
    """The course of a selection: what was trained so far, and what it comes to."""

    request: Request
    plan: Plan
    candidates: Sequence[Candidates]
    ladder: Ladder
    purse: Purse
    studies: list[str] = field(default_factory=list)
    trained: dict[int, set[tuple[Key, int]]] = field(default_factory=dict)

    def learn(self, told: Told) -> None:
        """Another wave; what two waves have in common counts once."""
        self.ladder.tell(told.wave, told.trials)
        self.studies.append(told.study)
        known = self.trained.setdefault(told.wave.rung, set())
        known |= {((trial.cell, trial.mask), trial.repeat) for trial in told.trials}

    def selected(
        self, choice: Choice, unfinished: str = "", study: str = "", rivals: tuple[Rival, ...] = ()
    ) -> Selected:
        """What it comes to by this choice; `unfinished` says why it is only the best so far, where it is."""
        cell, rank = choice.chosen.mask
        template = self.request.template
        return Selected(
            name=self.request.name,
            study=study,
            model=template.model,
            data=template.data,
            limit=self.request.limit,
            chosen=self._candidate(choice.chosen),
            pruned=self.plan.cells[cell].of_units.unrank(rank).pruned,
            test=self.ladder.on_test(choice.chosen),
            regret=choice.regret,
            regret_low=choice.regret_low,
            regret_high=choice.regret_high,
            candidates=tuple(map(self._candidate, choice.standings)),
            rungs=tuple(self._rungs(choice)),
            rivals=rivals,
            budget=str(self.request.budget),
            spent=self.purse.epochs,
            seconds=self.purse.seconds,
            reason=unfinished or choice.reason,
            stopped=bool(unfinished),
            **_costs(self.plan, choice),
            studies=tuple(self.studies),
        )

    def _candidate(self, one: Standing) -> Candidate:
        cell, rank = one.mask
        return Candidate(
            cell=self.plan.cells[cell].name,
            mask=rank,
            origin=self.candidates[cell].origins.get(rank, "random"),
            seen=one.seen,
            worth=one.worth,
            deviation=one.deviation,
            best=one.best,
            test_accuracy=one.test_accuracy,
        )

    def _rungs(self, choice: Choice) -> Iterator[Rung]:
        """The rungs that were reached, the lowest first."""
        for rung, known in sorted(self.trained.items()):
            forecast = choice.forecasts[rung] if rung < len(choice.forecasts) else None
            yield Rung(
                epochs=self.ladder.lengths[rung],
                masks=len({mask for mask, _ in known}),
                trainings=len(known),
                correlation=forecast.correlation if forecast else None,
            )


def check_template(template: StudySpec) -> None:
    """`SpecError` where a choice could not be made by this study's word, or test images would make it."""
    if template.final is FinalProtocol.BEST_ON_TEST or "best_on_test" in (
        template.retrain.keep,
        template.train.keep if template.train else "",
    ):
        raise SpecError(
            "a selection must not look at test images: take `last` or `best_on_validation`, not `best_on_test`"
        )
    if template.base_networks != 1:
        raise SpecError(f"a selection is of one network, but `base_networks` is {template.base_networks}")


def check_request(request: Request, data: Dataset) -> None:
    """`SpecError` where the budget buys nothing or the data has no validation images: better said before the work."""
    if data.validation is None:
        raise SpecError(
            f"`{request.template.data}` has no validation images to choose on: hold some of the train images out, such as "
            "a fifth by --validation-images 0.2"
        )
    if request.budget.epochs is not None:
        _begin_with(request.budget.epochs, rung_epochs(request.template.retrain.epochs), len(request.template.cells))


def choose(request: Request, place: Workplace) -> Selected:
    """Choose a mask; what was found before is taken over. The store keeps the best so far after every wave, and the choice.

    Interrupted, it gives the best so far, or raises `Paused` where no mask was retrained yet.
    """
    try:
        found = _chosen(request, place)
    except KeyboardInterrupt:
        raise Paused from None
    place.store.keep_selection(found)
    return found


def _chosen(request: Request, place: Workplace) -> Selected:
    torch.set_num_threads(1)
    check_request(request, place.data)
    template = request.template
    planned = plan(template, request.net)
    lengths = rung_epochs(template.retrain.epochs)
    record = known_base(planned, place.data, place.store) or make_base(
        planned, 0, place.data, place.backend, place.progress
    )
    base = _loaded(planned, record, place.data)
    purse = Purse(
        budget=request.budget, threads=place.executor.workers, pace=lambda: _pace(planned, base, lengths[0], place)
    )
    waves = Waves(
        name=request.name, template=template, lengths=lengths, base=record, sites=planned.sites,
        net=request.net, data=place.data, store=place.store,
        executor=place.executor, progress=place.progress, backend=place.backend,
    )  # fmt: skip
    sources = _sources(planned, base, place)
    candidates = _candidates(planned, sources, waves, purse)
    ladder = Ladder(lengths, purse, planned.seed("selection", 0))
    course = _Course(request=request, plan=planned, candidates=candidates, ladder=ladder, purse=purse)
    stopped = False
    try:
        for told in _waves(waves, candidates, ladder):
            course.learn(told)
            if not ladder.empty:
                place.store.keep_selection(course.selected(ladder.choice(), "it is not finished"))
    except Cut as cut:
        stopped = True
        course.learn(cut.told)
    except KeyboardInterrupt:  # between two waves
        stopped = True
    if stopped and ladder.empty:
        raise Paused
    choice, study = ladder.choice(), ""
    rivals: tuple[Rival, ...] = ()
    if choice.chosen.rung == len(lengths) - 1 and not stopped:
        try:
            study = waves.final(choice.chosen.mask, choice.chosen.repeats)
            if request.compare != "none":
                masks = 1 if request.compare == "one" else max(1, int(purse.epochs / lengths[-1]))
                lowest = _lowest(planned, choice.chosen.mask[0], sources, purse)
                rivals = Rivals(waves=waves, base=base, plan=planned, lowest=lowest, number=masks).against(choice)
        except (Cut, KeyboardInterrupt):
            stopped = True
    return course.selected(choice, "it was interrupted" if stopped else "", study, rivals)


def _waves(waves: Waves, candidates: Sequence[Candidates], ladder: Ladder) -> Iterator[Told]:
    """Wave after wave, each decided on by what became of those before: the ladder must be told before the next is asked for."""
    yield waves.first(candidates)
    for number, wave in enumerate(ladder.waves(), start=2):
        yield waves.train(number, wave)


def _loaded(planned: Plan, record: BaseRecord, data: Dataset) -> nn.Module:
    net = planned.nets[0]
    weights_from_bytes(net, record.weights, "of the base network")
    return net.to(data.device).eval()


def _sources(planned: Plan, base: nn.Module, place: Workplace) -> Sources:
    return Sources(
        base=base,
        sites=planned.sites,
        data=place.data,
        images=part_of(place.data.train, planned.spec.oracle_images, planned.seed("oracle images", 0)),
        removal=planned.spec.removal,
        executor=place.executor,
        progress=place.progress,
    )


def _candidates(planned: Plan, sources: Sources, waves: Waves, purse: Purse) -> list[Candidates]:
    """Of every cell, as many as the budget lets begin, or as an earlier run began with."""
    kept = waves.stored(1)
    if kept is None:
        a_cell = _begin_with(purse.total, waves.lengths, len(planned.cells))
        draws = [_draws(cell.space.count, a_cell) for cell in planned.cells]
    else:
        draws = [cell.draw or 0 for cell in kept.cells]
    opening = waves.opening(draws).cells
    return [
        sources.candidates(
            cell,
            wanted=number + len(kept.cells[cell.index].masks) if kept else int(a_cell),
            draws=frozenset(of_cell.drawn or ()) if number else frozenset(),
            seed=planned.seed("search of candidates", 0, cell.index),
        )
        for cell, of_cell, number in zip(planned.cells, opening, draws, strict=True)
    ]


def _lowest(planned: Plan, index: int, sources: Sources, purse: Purse) -> list[int]:
    """The masks of a cell that the chosen one is held against as those of lowest pruned train loss."""
    evaluations = max(_LEAST_EVALUATIONS, int(_SHARE_OF_SEARCH * purse.total * _EVALUATIONS_AN_EPOCH))
    return sources.lowest(planned.cells[index].of_units, evaluations, planned.seed("search of candidates", 0, index))


def _begin_with(epochs: float, lengths: Sequence[int], cells: int) -> float:
    """How many masks of a cell such a budget lets begin."""
    masks = first_masks(epochs, lengths)
    if masks < cells:
        raise SpecError(f"{cells} ways to prune compete, but the budget lets only {masks} masks begin: give more")
    return masks / cells


def _draws(space: int, masks: float) -> int:
    """How many of a cell's masks are drawn at random: all, where there are not more than it may begin with."""
    return space if space <= masks else round(SHARE_OF_DRAWS * masks)


def _pace(planned: Plan, base: nn.Module, epochs: int, place: Workplace) -> float:
    """Seconds of this machine a model-epoch, of a fleet that is trained for one and forgotten."""
    cell = planned.cells[0]
    recipe = shortened(planned.spec.retrain, epochs).model_copy(
        update={"epochs": 1, "evaluate_every": 1, "schedule": "constant", "milestones": (), "warmup_epochs": 0}
    )
    assignment = assignment_for(cell, recipe, planned, [base], place.data, place.backend)
    net = prune(base, cell.example, planned.sites, planned.spec.removal)
    for _ in range(2):  # the first compiles
        begin = monotonic()
        train_fleet([net] * assignment.networks, place.data, recipe, 0, backend=assignment, teacher=base)
    return (monotonic() - begin) / assignment.networks / place.executor.workers


def _costs(planned: Plan, choice: Choice) -> dict[str, Any]:
    """Parameters and operations, before and after."""
    cell, rank = choice.chosen.mask
    whole = cost(planned.nets[0], planned.shape)
    pruned = cost(prune(planned.nets[0], planned.cells[cell].space.unrank(rank), planned.sites), planned.shape)
    return {"parameters": (whole.parameters, pruned.parameters), "macs": (whole.macs, pruned.macs)}
