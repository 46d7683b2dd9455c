"""What a study measures of a mask beside its pruned train loss, before the retraining that it is to predict.

Each is a score of the mask in the store, under the name that it has in every table.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn

from trueoracle.data import Dataset, images_of
from trueoracle.executors import Executor, Stop
from trueoracle.fleet import Backend
from trueoracle.nets import channels_last, evaluate, prune, recalibrate
from trueoracle.store import Store
from trueoracle.study.plan import Plan, PlannedCell
from trueoracle.study.retrain import FleetTask, Retraining, assignment_for, fleets
from trueoracle.words.mask import AnyMask
from trueoracle.words.progress import Progress
from trueoracle.words.spec import Recipe, StudySpec
from trueoracle.words.trial import Outcome, Trial

RECALIBRATED = "recalibrated_train_loss"


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
            recipe=spec.retrain.model_copy(update={"steps": spec.loss_after_steps}),
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
    """The area under the curve of the train loss, an epoch wide a point: nats times epochs."""
    return math.fsum(point.train_loss for point in trial.curve)


def _early_on_test(trial: Trial) -> float:
    return trial.final.test_accuracy if trial.final else math.nan


def _early_on_validation(trial: Trial) -> float:
    known = trial.final.validation_accuracy if trial.final else None
    return math.nan if known is None else known


@dataclass(frozen=True, kw_only=True)
class Predictors:
    """Measures what the study asks for and the store does not have yet, a mask or a fleet of them at a time."""

    plan: Plan
    bases: Sequence[nn.Module]
    data: Dataset
    store: Store
    executor: Executor
    progress: Progress
    backend: Backend

    def measure(self, cell: PlannedCell) -> None:
        """All predictors of the masks of a cell whose pruned train losses are known."""
        if self.plan.spec.recalibration_images is not None:
            self._recalibrated(cell, self.plan.spec.recalibration_images)
        for kind in short_trainings(self.plan.spec, validation=self.data.validation is not None):
            self._trained(cell, kind)

    def _recalibrated(self, cell: PlannedCell, images: int) -> None:
        left = self.store.unscored(self.plan.digest, cell.index, RECALIBRATED)
        if not left:
            return
        images_NCHW = self._recalibration_images(cell.base, images)

        def work(mask: AnyMask, _stop: Stop) -> tuple[int, float]:
            pruned = channels_last(prune(self.bases[cell.base], mask, self.plan.sites, self.plan.spec.removal))
            recalibrate(pruned, images_NCHW)
            return mask.rank, evaluate(pruned, self.data.train).loss

        with self.progress.task(f"recalibrated train loss, {cell.name}", len(left), "masks") as advance:
            for rank, loss in self.executor.run(work, cell.masks_of(left)):
                self.store.add_scores(self.plan.digest, cell.index, RECALIBRATED, {rank: loss}, cell.digits)
                advance(1)

    def _recalibration_images(self, base: int, images: int) -> Tensor:
        """The same for every mask, drawn from the train split."""
        seed = self.plan.seed("recalibration", base)
        order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(seed))
        return images_of(self.data.train.take(order[:images].to(self.data.device))).images_NCHW

    def _trained(self, cell: PlannedCell, kind: ShortTraining) -> None:
        unscored = (self.store.unscored(self.plan.digest, cell.index, name) for name in kind.figures)
        left = sorted(set(chain.from_iterable(unscored)))
        if not left:
            return
        assignment = assignment_for(cell, kind.recipe, self.plan, self.bases, self.data, self.backend)
        total = len(left) * kind.repeats * kind.recipe.epochs_begun(len(self.data.train))
        with self.progress.task(
            f"{' and '.join(kind.figures).replace('_', ' ')}, {cell.name}", total, "model-epochs"
        ) as advance:
            training = Retraining(
                plan=self.plan, bases=self.bases, data=self.data, progress=self.progress, advance=advance,
                recipe=kind.recipe, purpose=kind.purpose,
            )  # fmt: skip

            def work(task: FleetTask, stop: Stop) -> list[list[Trial]]:
                return [training.run(replace(task, repeat=repeat), stop) for repeat in range(kind.repeats)]

            for repeats in self.executor.run(work, fleets(cell, cell.masks_of(left), 0, assignment)):
                for name, figure in kind.figures.items():
                    self.store.add_scores(self.plan.digest, cell.index, name, _means(figure, repeats), cell.digits)


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
