"""Retraining: masks of one cell leave networks of one shape, so they are retrained together, a fleet at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic

from torch import nn

from trueoracle.data import Dataset
from trueoracle.executors import Stop
from trueoracle.fleet import Assignment, Backend, Stopped, Trained, assign, train_fleet
from trueoracle.nets import prune
from trueoracle.store import Piece
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.sharing import in_pieces
from trueoracle.words.errors import StoreError
from trueoracle.words.folders import checkpoint_folder
from trueoracle.words.mask import AnyMask
from trueoracle.words.progress import Advance, Progress
from trueoracle.words.spec import Recipe, StudySpec
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, SplitAnswers, Trial, final_figures


@dataclass(frozen=True, kw_only=True)
class FleetTask:
    """Networks to be trained together: masks of one cell, one repeat."""

    cell: PlannedCell
    masks: tuple[AnyMask, ...]
    repeat: int
    backend: Assignment


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What all fleets of a study share: `bases` by their number, the recipe, and `purpose`, which names the seeds."""

    plan: Plan
    bases: Sequence[nn.Module]
    data: Dataset
    progress: Progress
    advance: Advance
    recipe: Recipe
    purpose: str = "retraining order"

    def run(self, task: FleetTask, stop: Stop) -> list[Trial]:
        """Prune, retrain, sum up. What goes wrong with one trial is its outcome and stops no other."""
        begin = monotonic()
        found = self._together(task, stop)
        seconds = (monotonic() - begin) / len(task.masks)
        return [self._trial(task, mask, one, seconds) for mask, one in zip(task.masks, found, strict=True)]

    def _together(self, task: FleetTask, stop: Stop) -> list[Trained | str]:
        """How each network of the fleet was trained, or what went wrong; after an error each half is tried by itself."""
        try:
            return [*self._train(task, task.masks, stop)]
        except Stopped:
            raise
        except Exception as problem:
            if len(task.masks) == 1:
                return [f"{type(problem).__name__}: {problem}"]
        half = len(task.masks) // 2
        halves = (replace(task, masks=masks) for masks in (task.masks[:half], task.masks[half:]))
        return [one for part in halves for one in self._together(part, stop)]

    def _train(self, task: FleetTask, masks: Sequence[AnyMask], stop: Stop) -> list[Trained]:
        nets = [prune(self.bases[task.cell.base], mask, self.plan.sites, self.plan.spec.removal) for mask in masks]
        return train_fleet(
            nets,
            self.data,
            self.recipe,
            self._seed(task),
            stop=stop,
            on_epoch=self.advance,
            backend=task.backend,
            progress=self.progress,
            final=self.plan.spec.final,
            checkpoints=checkpoint_folder(),
            teacher=self.bases[task.cell.base],
        )

    def _trial(self, task: FleetTask, mask: AnyMask, found: Trained | str, seconds: float) -> Trial:
        curve = () if isinstance(found, str) else found.curve
        outcome = Outcome.FAILED if isinstance(found, str) else found.outcome
        answers = {} if isinstance(found, str) else kept_answers(found.answers, self.plan.spec)
        return Trial(
            cell=task.cell.index,
            mask=mask.rank,
            repeat=task.repeat,
            seed=self._seed(task),
            outcome=outcome,
            curve=curve,
            final=final_figures(curve, self.plan.spec.final) if outcome is Outcome.FINISHED else None,
            seconds=seconds,
            error=found if isinstance(found, str) else "",
            answers=answers,
            every=self.recipe.evaluate_every,
        )

    def _seed(self, task: FleetTask) -> int:
        return self.plan.seed(self.purpose, task.cell.base, task.repeat)


def kept_answers(answers: Mapping[str, SplitAnswers], spec: StudySpec) -> dict[str, SplitAnswers]:
    """What the study keeps of a network's answers: with losses only where it says so."""
    losses = spec.keep == "losses"
    return {split: given if losses else given.without_losses() for split, given in answers.items()}


def assignment_for(
    cell: PlannedCell, recipe: Recipe, plan: Plan, bases: Sequence[nn.Module], data: Dataset, backend: Backend
) -> Assignment:
    """Which backend trains a cell's networks by this recipe, and why."""
    return assign(prune(bases[cell.base], cell.example, plan.sites), data, recipe, backend)


def pieces_of(plan: Plan, made: Sequence[Assignment], settled: AbstractSet[tuple[int, int, int]]) -> Iterator[Piece]:
    """What is left in pieces of a fleet each, cell after cell: by the places of its masks among the cell's ranks."""
    for cell, assignment in zip(plan.cells, made, strict=True):
        for repeat in range(plan.spec.repeats):
            left = (place for place, rank in enumerate(cell.ranks) if (cell.index, rank, repeat) not in settled)
            yield from in_pieces(left, assignment.networks, cell.index, repeat)


def fleets_of(
    plan: Plan, piece: Piece, assignment: Assignment, settled: AbstractSet[tuple[int, int, int]]
) -> Iterator[FleetTask]:
    """The fleets of a piece, one unless another machine, whose fleets are larger, listed it."""
    cell = plan.cells[piece.cell]
    ranks = (rank for rank in cell.ranks[piece.start : piece.stop] if (cell.index, rank, piece.repeat) not in settled)
    return fleets(cell, cell.masks_of(ranks), piece.repeat, assignment)


def fleets(cell: PlannedCell, masks: Iterable[AnyMask], repeat: int, assignment: Assignment) -> Iterator[FleetTask]:
    """The masks in fleets as large as the assignment says."""
    left = iter(masks)
    while together := tuple(islice(left, assignment.networks)):
        yield FleetTask(cell=cell, masks=together, repeat=repeat, backend=assignment)


def retrained(
    plan: Plan,
    base: nn.Module,
    cell: PlannedCell,
    mask: AnyMask,
    repeat: int,
    data: Dataset,
    *,
    backend: Backend = "auto",
    advance: Advance = lambda _epochs: None,
    progress: Progress | None = None,
) -> tuple[nn.Module, Figures]:
    """One trial made again, for its network: the same seed makes the same numbers as in the study's fleets.

    Returns the network of the epoch that counts and the final figures (of `mean_last_5`, the last network and a mean);
    `StoreError` where the trial has none, for its training diverges.
    """
    net = prune(base, mask, plan.sites, plan.spec.removal)
    seed = plan.seed(Retraining.purpose, cell.base, repeat)
    best = (FinalProtocol.BEST_ON_TEST, FinalProtocol.BEST_ON_VALIDATION)
    keep = plan.spec.final.value if plan.spec.final in best else "last"
    recipe = plan.spec.retrain.model_copy(update={"keep": keep})
    (trained,) = train_fleet(
        [net], data, recipe, seed, on_epoch=advance, backend=backend, progress=progress, teacher=base
    )
    if trained.outcome is not Outcome.FINISHED:
        raise StoreError(
            f"mask {mask.rank} of cell `{cell.name}` has no network: its retraining {trained.outcome.value}"
        )
    return trained.net, final_figures(trained.curve, plan.spec.final)
