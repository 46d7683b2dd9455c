"""The two ways into training: networks of one shape together, or one network alone."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from trueoracle.data import Dataset
from trueoracle.fleet.backends import Assignment, assign
from trueoracle.fleet.checkpoint import Checkpoint
from trueoracle.fleet.fleet import Fleet, Stop, Trained, train_in_lockstep
from trueoracle.fleet.lanes import LaneFleet, kernels
from trueoracle.fleet.loop import LoopFleet
from trueoracle.fleet.stacked import StackedFleet, gpu_to_itself
from trueoracle.nets import channels_last, kept_weights, state_bytes
from trueoracle.words.known import Backend
from trueoracle.words.progress import Progress, Quiet
from trueoracle.words.release import release
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
    checkpoints: Path | None = None,
    teacher: nn.Module | None = None,
) -> list[Trained]:
    """Train copies of networks of one shape on the same batches, and return them in their order.

    Numbers of one network do not depend on the others. `recipe` is for all, or one for each; those may differ in
    `lr` and `weight_decay` alone. `on_epoch` gets the number of networks that finished an epoch. `stop` is asked
    about twice a second or more often; where it says yes, `Stopped` is raised. `final` says which epoch's answers are
    handed back. In the folder `checkpoints` long trainings are written down now and then; the same training, begun
    again after a kill, goes on from there and ends with the same bits. `teacher` is the dense network, for recipes that distill.
    """
    recipes = [recipe] * len(nets) if isinstance(recipe, Recipe) else list(recipe)
    _check(nets, recipes)
    teacher = _asked(teacher, recipes[0])
    assignment = assign(nets[0], data, recipes[0], backend)
    done: list[Trained] = []
    for first in range(0, len(nets), assignment.networks):
        group = slice(first, first + assignment.networks)
        done += _train(
            nets[group],
            data,
            recipes[group],
            order_seed,
            assignment,
            stop,
            on_epoch,
            progress,
            final,
            checkpoints,
            teacher,
            lone=False,
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
    checkpoints: Path | None = None,
    teacher: nn.Module | None = None,
) -> Trained:
    """Train a copy of one network; in lanes these hold samples.

    Sixteen times faster there than a fleet of one, whose sums it rounds in another order: a network is trained either
    always in fleets or always alone.
    """
    assignment = assign(net, data, recipe, backend)
    return _train(
        [net], data, [recipe], order_seed, assignment, stop, on_epoch, progress, final, checkpoints,
        _asked(teacher, recipe), lone=True,
    )[0]  # fmt: skip


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
    checkpoints: Path | None,
    teacher: nn.Module | None,
    *,
    lone: bool,
) -> list[Trained]:
    """As many networks as the assignment takes at a time."""
    checkpoint = None
    if checkpoints is not None:
        identity = _identity(nets, data, recipes, order_seed, assignment, final, teacher, lone=lone)
        checkpoint = Checkpoint(checkpoints, identity, data.device)
    with gpu_to_itself(data) if assignment.backend == "stacked" else nullcontext():
        fleet = _fleet(nets, data, recipes, order_seed, assignment, progress or Quiet(), teacher, lone=lone)
        return train_in_lockstep(fleet, data, recipes, order_seed, stop, on_epoch, final, checkpoint)


def _fleet(
    nets: Sequence[nn.Module],
    data: Dataset,
    recipes: Sequence[Recipe],
    order_seed: int,
    assignment: Assignment,
    progress: Progress,
    teacher: nn.Module | None,
    *,
    lone: bool,
) -> Fleet:
    match assignment.backend:
        case "loop":
            return LoopFleet(nets[0], data, recipes[0], order_seed, teacher)
        case "lanes":
            assert assignment.chain is not None
            distills = teacher is not None
            code = kernels(assignment.chain, nets[0], lone=lone, distills=distills, progress=progress)
            return LaneFleet(code, nets, data, recipes, teacher)
        case "stacked":
            return StackedFleet(nets, data, recipes, teacher)


def _identity(
    nets: Sequence[nn.Module],
    data: Dataset,
    recipes: Sequence[Recipe],
    order_seed: int,
    assignment: Assignment,
    final: FinalProtocol,
    teacher: nn.Module | None,
    *,
    lone: bool,
) -> str:
    """Everything that the numbers of a training depend on."""
    facts = {
        "weights": [sha256(state_bytes(net)).hexdigest() for net in nets],
        "recipes": [recipe.model_dump(mode="json") for recipe in recipes],
        "data": [data.fingerprint, len(data.train), len(data.test), len(data.validation or ())],
        "order": order_seed,
        "backend": [assignment.backend, lone, data.device.type],
        "final": final.value,
        "versions": [torch.__version__, release()],
    }
    if teacher is not None:
        facts["teacher"] = sha256(state_bytes(teacher)).hexdigest()
    return json.dumps(facts, sort_keys=True)


def _asked(teacher: nn.Module | None, recipe: Recipe) -> nn.Module | None:
    """Whom the recipe learns from, in eval mode; None where it learns from nobody."""
    if recipe.distill is None:
        return None
    if teacher is None:
        raise ValueError("the recipe has `distill`, so `teacher` must be the dense network")
    return channels_last(deepcopy(teacher)).eval()


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
    masked = [sorted(kept_weights(net)) for net in nets]
    if any(names != masked[0] for names in masked):
        raise ValueError("masks must hold weights of the same layers in all networks of a fleet, or of none")
