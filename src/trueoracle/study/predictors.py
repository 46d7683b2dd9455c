"""What a study measures of a mask beside its pruned train loss, before the retraining that it is to predict.

Each is a score of the mask in the store, under the name that it has in every table.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor, nn

from trueoracle.data import Dataset, images_of
from trueoracle.executors import Executor, Stop
from trueoracle.fleet import Backend
from trueoracle.nets import channels_last, evaluate, prune, recalibrate
from trueoracle.store import Claim, Piece, Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.retrain import Retraining, assignment_for, fleets
from trueoracle.study.sharing import Sharing, in_pieces
from trueoracle.words.mask import AnyMask
from trueoracle.words.progress import Advance, Progress, Quiet
from trueoracle.words.spec import Recipe, StudySpec
from trueoracle.words.trial import Outcome, Trial

RECALIBRATED = "recalibrated_train_loss"

Scores = Mapping[str, Mapping[int, float]]
"""Name -> rank -> score."""


@dataclass(frozen=True, kw_only=True)
class ShortTraining:
    """A training, shorter than the one it is to predict, and the scores it gives: means of `figures` over `repeats`."""

    recipe: Recipe
    purpose: str
    repeats: int
    figures: Mapping[str, Callable[[Trial], float]]


def short_trainings(spec: StudySpec, *, validation: bool) -> Iterator[ShortTraining]:
    """Those that the study asks for.

    Where there is a validation split, what predicts the accuracy on test must not have seen test.
    """
    if spec.loss_after_steps is not None:
        yield ShortTraining(
            recipe=spec.retrain.model_copy(update={"steps": spec.loss_after_steps, "evaluate_every": 1}),
            purpose="order of the first steps",
            repeats=1,
            figures={f"after_{spec.loss_after_steps}_steps_train_loss": lambda trial: trial.curve[-1].train_loss},
        )
    if spec.early is not None:
        accuracy = "early_validation_accuracy" if validation else "early_test_accuracy"
        yield ShortTraining(
            recipe=spec.early,
            purpose="early order",
            repeats=spec.repeats,
            figures={accuracy: _early_on_validation if validation else _early_on_test, "early_area": _area},
        )


def _area(trial: Trial) -> float:
    """The area under the curve of the train loss, a point as wide as the epochs it ends: nats times epochs."""
    return trial.every * math.fsum(point.train_loss for point in trial.curve)


def _early_on_test(trial: Trial) -> float:
    return trial.final.test_accuracy if trial.final else math.nan


def _early_on_validation(trial: Trial) -> float:
    known = trial.final.validation_accuracy if trial.final else None
    return math.nan if known is None else known


@dataclass(frozen=True, kw_only=True)
class Predictors:
    """Measures what the study asks for and the store does not have yet. A piece is some masks of a cell, a thread's work."""

    plan: Plan
    cells: Sequence[PlannedCell]
    bases: Sequence[nn.Module]
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    backend: Backend

    def take_part(self, ours: Sharing) -> None:
        """All predictors of all masks whose pruned train losses are known, by whichever worker."""
        if self.plan.spec.recalibration_images is not None:
            self._recalibrated(ours, self.plan.spec.recalibration_images)
        for kind in short_trainings(self.plan.spec, validation=self.data.validation is not None):
            self._trained(ours, kind)

    def _recalibrated(self, ours: Sharing, images: int) -> None:
        drawn = lru_cache(maxsize=1)(lambda base: self._recalibration_images(base, images))

        def scores(cell: PlannedCell, masks: Sequence[AnyMask], _stop: Stop, advance: Advance) -> Scores:
            found = {}
            for mask in masks:
                pruned = channels_last(prune(self.bases[cell.base], mask, self.plan.sites, self.plan.spec.removal))
                recalibrate(pruned, drawn(cell.base))
                found[mask.rank] = evaluate(pruned, self.data.train).loss
                advance(1)
            return {RECALIBRATED: found}

        self._stage(ours, (RECALIBRATED,), lambda _cell: 1, scores, "masks")

    def _recalibration_images(self, base: int, images: int) -> Tensor:
        """The same for every mask, drawn from the train split."""
        seed = self.plan.seed("recalibration", base)
        order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(seed))
        return images_of(self.data.train.take(order[:images].to(self.data.device))).images_NCHW

    def _trained(self, ours: Sharing, kind: ShortTraining) -> None:
        made = lru_cache(maxsize=None)(
            lambda index: assignment_for(self.cells[index], kind.recipe, self.plan, self.bases, self.data, self.backend)
        )

        def scores(cell: PlannedCell, masks: Sequence[AnyMask], stop: Stop, advance: Advance) -> Scores:
            training = Retraining(
                plan=self.plan, bases=self.bases, data=self.data, progress=self.progress, advance=advance,
                recipe=kind.recipe, purpose=kind.purpose,
            )  # fmt: skip
            found: dict[str, dict[int, float]] = {name: {} for name in kind.figures}
            for task in fleets(cell, masks, 0, made(cell.index)):
                repeats = [training.run(replace(task, repeat=repeat), stop) for repeat in range(kind.repeats)]
                for name, figure in kind.figures.items():
                    found[name] |= _means(figure, repeats)
            return found

        epochs = kind.repeats * kind.recipe.epochs_begun(len(self.data.train))
        self._stage(ours, tuple(kind.figures), lambda cell: made(cell.index).networks, scores, "model-epochs", epochs)

    def _stage(
        self,
        ours: Sharing,
        names: Sequence[str],
        at_once: Callable[[PlannedCell], int],
        scores: Callable[[PlannedCell, Sequence[AnyMask], Stop, Advance], Scores],
        unit: str,
        units_a_mask: int = 1,
    ) -> None:
        """All scores of these names: `scores` measures `at_once` masks of a cell, unless one machine listed more."""
        unscored = lru_cache(maxsize=1)(lambda index: self._unscored(index, names))

        def places(cell: PlannedCell) -> list[int]:
            known = self._unscored(cell.index, names)
            return [place for place, rank in enumerate(cell.ranks) if rank in known]

        left = {cell.index: len(places(cell)) for cell in self.cells}
        steps = {index: at_once(self.cells[index]) for index, masks in left.items() if masks}

        def missing() -> Iterator[Piece]:
            for index, step in steps.items():
                yield from in_pieces(places(self.cells[index]), step, index)

        def keep(claim: Claim, found: Scores) -> None:
            cell = self.cells[claim.piece.cell]
            for name, values in found.items():
                self.store.add_scores(self.plan.digest, cell.index, name, values, cell.digits)
            self.store.settle(claim)

        what = " and ".join(names).replace("_", " ")
        bar = self.progress if steps else Quiet()
        with bar.task(what, units_a_mask * sum(left.values()), unit) as advance:

            def work(piece: Piece, stop: Stop) -> Scores:
                cell = self.cells[piece.cell]
                ranks = (rank for rank in cell.ranks[piece.start : piece.stop] if rank in unscored(cell.index))
                return scores(cell, [cell.space.unrank(rank) for rank in ranks], stop, advance)

            ours.stage(what, missing, work, keep, self.executor.run)

    def _unscored(self, index: int, names: Sequence[str]) -> AbstractSet[int]:
        """The ranks of the cell's masks that lack a score of these names."""
        return set(chain.from_iterable(self.store.unscored(self.plan.digest, index, name) for name in names))


def _means(figure: Callable[[Trial], float], repeats: Sequence[Sequence[Trial]]) -> dict[int, float]:
    """The mask's score by its rank: not a number where a training diverged, left out where one failed."""
    values = {}
    for of_mask in zip(*repeats, strict=True):
        outcomes = {trial.outcome for trial in of_mask}
        if Outcome.FAILED in outcomes:
            continue
        finished = outcomes == {Outcome.FINISHED}
        figures = [figure(trial) for trial in of_mask] if finished else [math.nan]
        values[of_mask[0].mask] = math.fsum(figures) / len(figures)
    return values
