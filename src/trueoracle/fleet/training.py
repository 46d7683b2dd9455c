"""The two ways into training: networks of one shape together, or one network alone."""

from collections.abc import Callable, Sequence

from torch import nn

from trueoracle.data import Dataset
from trueoracle.fleet.backends import Assignment, assign
from trueoracle.fleet.fleet import Stop, train_in_lockstep
from trueoracle.fleet.lanes import LaneFleet, kernels
from trueoracle.fleet.loop import Trained, train
from trueoracle.fleet.stacked import StackedFleet, gpu_to_itself
from trueoracle.words.known import Backend
from trueoracle.words.progress import Progress, Quiet
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import FinalProtocol


def train_fleet(
    nets: Sequence[nn.Module],
    data: Dataset,
    recipe: Recipe | Sequence[Recipe],
    order_seed: int,
    *,
    stop: Stop = lambda: False,
    on_epoch: Callable[[int], None] = lambda _networks: None,
    backend: Backend | Assignment = "auto",
    progress: Progress | None = None,
    final: FinalProtocol = FinalProtocol.LAST,
) -> list[Trained]:
    """Train copies of networks of one shape on the same batches, and return them in their order.

    Numbers of one network do not depend on the others. `recipe` is for all, or one for each; those may differ in
    `lr` and `weight_decay` alone. `on_epoch` gets the number of networks that finished an epoch. `stop` is asked
    about twice a second or more often; where it says yes, `Stopped` is raised. `final` says which epoch's answers are
    handed back.
    """
    recipes = [recipe] * len(nets) if isinstance(recipe, Recipe) else list(recipe)
    _check(nets, recipes)
    assignment = assign(nets[0], data, recipes[0], backend)
    done: list[Trained] = []
    for first in range(0, len(nets), assignment.networks):
        group = slice(first, first + assignment.networks)
        done += _train(
            nets[group], data, recipes[group], order_seed, assignment, stop, on_epoch, progress, final, lone=False
        )
    return done


def train_alone(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    order_seed: int,
    *,
    stop: Stop = lambda: False,
    on_epoch: Callable[[int], None] = lambda _networks: None,
    backend: Backend | Assignment = "auto",
    progress: Progress | None = None,
    final: FinalProtocol = FinalProtocol.LAST,
) -> Trained:
    """Train a copy of one network; in lanes these hold samples.

    Sixteen times faster there than a fleet of one, whose sums it rounds in another order: a network is trained either
    always in fleets or always alone.
    """
    assignment = assign(net, data, recipe, backend)
    return _train([net], data, [recipe], order_seed, assignment, stop, on_epoch, progress, final, lone=True)[0]


def _train(
    nets: Sequence[nn.Module],
    data: Dataset,
    recipes: Sequence[Recipe],
    order_seed: int,
    assignment: Assignment,
    stop: Stop,
    on_epoch: Callable[[int], None],
    progress: Progress | None,
    final: FinalProtocol,
    *,
    lone: bool,
) -> list[Trained]:
    """As many networks as the assignment takes at a time."""
    match assignment.backend:
        case "loop":
            return [train(nets[0], data, recipes[0], order_seed, stop, lambda: on_epoch(1), final)]
        case "lanes":
            assert assignment.chain is not None
            code = kernels(assignment.chain, nets[0], lone=lone, progress=progress or Quiet())
            lanes = LaneFleet(code, nets, data, recipes)
            return train_in_lockstep(lanes, data, recipes, order_seed, stop, on_epoch, final)
        case "stacked":
            with gpu_to_itself(data):
                stacked = StackedFleet(nets, data, recipes)
                return train_in_lockstep(stacked, data, recipes, order_seed, stop, on_epoch, final)


def _check(nets: Sequence[nn.Module], recipes: Sequence[Recipe]) -> None:
    if not nets:
        raise ValueError("`nets` must hold at least one network")
    if len(recipes) != len(nets):
        raise ValueError(
            f"`recipe` must be one for all or one for each, but got {len(recipes)} for {len(nets)} networks"
        )
    shared = [own.model_dump(exclude={"lr", "weight_decay"}) for own in recipes]
    if any(own != shared[0] for own in shared):
        raise ValueError("the recipes of a fleet may differ in `lr` and `weight_decay` alone")
    shapes = [[(name, p.shape) for name, p in net.named_parameters()] for net in nets]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"the networks of a fleet must be of one shape, but network {number} differs from the first"
            )
