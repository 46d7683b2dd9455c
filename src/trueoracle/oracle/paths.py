"""Which path a network's masks take to their losses, and why."""

from torch import nn

from trueoracle.nets import Removal
from trueoracle.oracle.batched import CannotBatch, batched
from trueoracle.oracle.evaluator import Evaluator
from trueoracle.oracle.exact import exact
from trueoracle.oracle.loop import Loop
from trueoracle.space import AnySpace, MaskSpace, WeightSpace
from trueoracle.words.errors import ModelError
from trueoracle.words.known import check_path
from trueoracle.words.progress import Progress, Quiet
from trueoracle.words.shape import InputShape, Shape

_NO_IMAGES = "it takes {}, not images to be classified"


def evaluator(
    net: nn.Module,
    space: AnySpace,
    shape: Shape,
    removal: Removal = "aligned",
    path: str = "auto",
    progress: Progress | None = None,
) -> Evaluator:
    """The evaluator of this path; `auto` takes the fastest that the network allows.

    Its `path` says which was taken, a loop's also why. `SpecError` for an unknown path, `ModelError` with the reason
    where the path asked for is not to be had.
    """
    check_path(path)
    if isinstance(space, WeightSpace):
        if path not in ("auto", "loop"):
            raise ModelError(f"masks of weights are evaluated in the loop alone, not by the path `{path}`")
        return Loop(net=net, space=space, shape=shape, path="loop: the masks are of single weights")
    if path in ("auto", "exact"):
        found = _exact(net, space, shape, removal, progress or Quiet())
        if not isinstance(found, str):
            return found
        if path == "exact":
            raise ModelError(f"the exact path cannot take this network: {found}")
    if path == "loop":
        return Loop(net=net, space=space, shape=shape, removal=removal)
    try:
        return _batched(net, space, shape, removal)
    except CannotBatch as reason:
        if path == "batched":
            raise
        return Loop(net=net, space=space, shape=shape, removal=removal, path=f"loop: {reason}")


def _batched(net: nn.Module, space: MaskSpace, shape: Shape, removal: Removal) -> Evaluator:
    if not isinstance(shape, InputShape):
        raise CannotBatch(_NO_IMAGES.format(shape))
    return batched(net, space, shape, removal)


def _exact(net: nn.Module, space: MaskSpace, shape: Shape, removal: Removal, progress: Progress) -> Evaluator | str:
    if not isinstance(shape, InputShape):
        return _NO_IMAGES.format(shape)
    device = next(net.parameters()).device.type
    return exact(net, space, shape, removal, progress) if device == "cpu" else f"it computes on a CPU, not on {device}"
