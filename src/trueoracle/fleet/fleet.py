"""A fleet: networks of one shape trained in lockstep, whatever computes it; and the one training loop that there is.

Letters: N networks, B batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from trueoracle.data import Dataset
from trueoracle.fleet.checkpoint import Checkpoint, Position
from trueoracle.fleet.evaluated import Evaluated
from trueoracle.fleet.schedule import batches, learning_rate, orders
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, SplitAnswers, counted_epoch

Stop = Callable[[], bool]

Place = tuple[int, int, int]
"""Where a training is: the seed of its orders, the epoch from 0, the number of the batch from 1."""


class Stopped(Exception):
    """The user asked for an end in the middle of a training."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training hands back: the network the recipe keeps, its curve, a point each `evaluate_every` epochs, and how it ended.

    `answers`, by split, are those of the epoch that counts as final, which need not be the one kept.
    """

    net: nn.Module
    curve: tuple[Figures, ...]
    outcome: Outcome
    answers: Mapping[str, SplitAnswers] = field(default_factory=dict)


class Fleet(Protocol):
    """Made from N networks, which stay as they are; every step is on the same images for all of them.

    `stop` is asked now and then; where it says yes, `Stopped` is raised, and nothing has changed since the last step.
    """

    def set_rates(self, lr_N: Sequence[float]) -> None:
        """The learning rate of each network for the steps to come."""
        ...

    def step(self, batch_B: Tensor, place: Place, stop: Stop) -> None:
        """One step of the optimiser on the mean loss over the train images at these places.

        What is random in it depends on `place` alone.
        """
        ...

    def evaluate(self, stop: Stop) -> list[Evaluated]:
        """Each network on every split, eval mode."""
        ...

    def member(self, index: int) -> nn.Module:
        """A network as it is now, on its own, in eval mode."""
        ...

    def freeze(self, index: int) -> None:
        """Leave out a network that diverged: what is not a number in it reaches no other."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Every number that a step changes, by name: weights, buffers, and what the optimiser remembers."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a state that `state` gave of a fleet made in the same way."""
        ...


def train_in_lockstep(
    fleet: Fleet,
    data: Dataset,
    recipes: Sequence[Recipe],
    order_seed: int,
    stop: Stop,
    on_epoch: Callable[[int], None],
    final: FinalProtocol = FinalProtocol.LAST,
    checkpoint: Checkpoint | None = None,
) -> list[Trained]:
    """Train a fleet to its end.

    `recipes`, one for each network, differ in learning rate and decay alone. A network whose loss is no longer finite is
    `DIVERGED`: it is handed back as it then was, with its curve up to there, and the others go on. Where a `checkpoint`
    of the same training is kept, it goes on from there.
    """
    recipe = recipes[0]
    training = _Training(fleet, recipes, final)
    begun = training.resume(checkpoint, on_epoch)
    for epoch, order in orders(recipe, len(data.train), order_seed):
        if epoch < begun.epoch:
            continue
        fleet.set_rates([learning_rate(own, epoch) for own in recipes])
        for number, batch_B in enumerate(batches(order, recipe.batch_size, data.device), 1):
            if epoch == begun.epoch and number <= begun.batches:
                continue
            fleet.step(batch_B, (order_seed, epoch, number), stop)
            if checkpoint is not None and checkpoint.due():
                training.keep(checkpoint, Position(epoch=epoch, batches=number))
        if (epoch + 1) % recipe.evaluate_every == 0:
            training.note(fleet.evaluate(stop))
        if training.all_diverged:
            break
        on_epoch(training.alive)
        if checkpoint is not None and checkpoint.due():
            training.keep(checkpoint, Position(epoch=epoch + 1, batches=0))
    if checkpoint is not None:
        checkpoint.forget()
    return training.trained()


class _Training:
    """What a fleet's networks went through so far."""

    def __init__(self, fleet: Fleet, recipes: Sequence[Recipe], final: FinalProtocol) -> None:
        self._fleet, self._keeps, self._final = fleet, recipes[0].keep, final
        self._every = recipes[0].evaluate_every
        self._curves: list[list[Figures]] = [[] for _ in recipes]
        self._answers: dict[int, Mapping[str, SplitAnswers]] = {}
        self._kept: dict[int, nn.Module] = {}
        self._diverged: set[int] = set()

    @property
    def alive(self) -> int:
        """How many networks have not diverged."""
        return len(self._curves) - len(self._diverged)

    @property
    def all_diverged(self) -> bool:
        """Nothing is left to train."""
        return self.alive == 0

    def note(self, networks: Sequence[Evaluated]) -> None:
        """Note where every network is now, the next point of its curve."""
        for index, now in enumerate(networks):
            if index in self._diverged:
                continue
            curve = self._curves[index]
            if not now.figures.finite():
                self._diverged.add(index)
                self._kept[index] = self._fleet.member(index)
                self._fleet.freeze(index)
                continue
            curve.append(now.figures)
            now_last = len(curve) - 1
            if counted_epoch(curve, self._final) == now_last:
                self._answers[index] = now.answers
            if self._keeps != "last" and counted_epoch(curve, FinalProtocol(self._keeps)) == now_last:
                self._kept[index] = self._fleet.member(index)

    def trained(self) -> list[Trained]:
        """What the training hands back, once it has ended."""
        return [
            Trained(
                net=self._kept[index] if index in self._kept else self._fleet.member(index),
                curve=tuple(curve),
                outcome=Outcome.DIVERGED if index in self._diverged else Outcome.FINISHED,
                answers={} if index in self._diverged else self._answers[index],
            )
            for index, curve in enumerate(self._curves)
        ]

    def keep(self, checkpoint: Checkpoint, position: Position) -> None:
        """Write all of it down, from which `resume` goes on."""
        kept = {index: net.state_dict() for index, net in self._kept.items()}
        checkpoint.keep(position, self._fleet.state(), kept, self._curves, self._answers, self._diverged)

    def resume(self, checkpoint: Checkpoint | None, on_epoch: Callable[[int], None]) -> Position:
        """Go back to what is kept; returns where the training goes on, its beginning where nothing is kept."""
        found = None if checkpoint is None else checkpoint.read()
        if found is None:
            return Position(epoch=0, batches=0)
        self._fleet.restore(found.fleet)
        self._curves, self._answers, self._diverged = found.curves, found.answers, found.diverged
        for index in self._diverged:
            self._fleet.freeze(index)
        for index, state in found.kept.items():
            self._kept[index] = self._fleet.member(index)
            self._kept[index].load_state_dict(state)
        for epoch in range(found.position.epoch):
            on_epoch(sum(self._lived_through(index, epoch) for index in range(len(self._curves))))
        return found.position

    def _lived_through(self, index: int, epoch: int) -> bool:
        return index not in self._diverged or epoch < self._every * len(self._curves[index])
