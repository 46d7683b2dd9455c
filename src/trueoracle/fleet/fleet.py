"""A fleet: networks of one shape trained in lockstep, whatever computes it.

Letters: N networks, B batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from trueoracle.data import Dataset
from trueoracle.fleet.evaluated import Evaluated
from trueoracle.fleet.loop import Trained, batches, learning_rate, orders
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import Figures, FinalProtocol, Outcome, SplitAnswers, counted_epoch

Stop = Callable[[], bool]


class Fleet(Protocol):
    """Made from N networks, which stay as they are; every step is on the same images for all of them.

    `stop` is asked now and then; where it says yes, `Stopped` is raised.
    """

    def set_rates(self, lr_N: Sequence[float]) -> None:
        """The learning rate of each network for the steps to come."""
        ...

    def step(self, batch_B: Tensor, stop: Stop) -> None:
        """One step of the optimiser on the mean loss over the train images at these places."""
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


def train_in_lockstep(
    fleet: Fleet,
    data: Dataset,
    recipes: Sequence[Recipe],
    order_seed: int,
    stop: Stop,
    on_epoch: Callable[[int], None],
    final: FinalProtocol = FinalProtocol.LAST,
) -> list[Trained]:
    """Train a fleet to its end: what `loop.train` does for one network.

    `recipes`, one for each network, differ in learning rate and decay alone. A network whose loss is no longer finite is
    `DIVERGED`: it is handed back as it then was, with its curve up to there, and the others go on.
    """
    recipe = recipes[0]
    curves: list[list[Figures]] = [[] for _ in recipes]
    answers: dict[int, Mapping[str, SplitAnswers]] = {}
    kept: dict[int, nn.Module] = {}
    diverged: set[int] = set()
    for epoch, order in orders(recipe, len(data.train), order_seed):
        fleet.set_rates([learning_rate(own, epoch) for own in recipes])
        for batch_B in batches(order, recipe.batch_size, data.device):
            fleet.step(batch_B, stop)
        for index, now in enumerate(fleet.evaluate(stop)):
            if index in diverged:
                continue
            if not now.figures.finite():
                diverged.add(index)
                kept[index] = fleet.member(index)
                fleet.freeze(index)
                continue
            curves[index].append(now.figures)
            if counted_epoch(curves[index], final) == epoch:
                answers[index] = now.answers
            if recipe.keep != "last" and counted_epoch(curves[index], FinalProtocol(recipe.keep)) == epoch:
                kept[index] = fleet.member(index)
        if len(diverged) == len(recipes):
            break
        on_epoch(len(recipes) - len(diverged))
    return [
        Trained(
            net=kept[index] if index in kept else fleet.member(index),
            curve=tuple(curve),
            outcome=Outcome.DIVERGED if index in diverged else Outcome.FINISHED,
            answers={} if index in diverged else answers[index],
        )
        for index, curve in enumerate(curves)
    ]
