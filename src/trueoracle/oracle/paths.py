"""Which path a network's masks take to their losses, and why."""

from torch import nn

from trueoracle.errors import SpecError, unknown
from trueoracle.oracle.batched import CannotBatch, batched
from trueoracle.oracle.evaluator import Evaluator
from trueoracle.oracle.loop import Loop
from trueoracle.shape import InputShape
from trueoracle.space import MaskSpace

PATHS = ("auto", "batched", "loop")


def evaluator(net: nn.Module, space: MaskSpace, shape: InputShape, path: str = "auto") -> Evaluator:
    """The evaluator of this path; `auto` takes the fastest that the network allows, and its `path` says why.

    `SpecError` for an unknown path, `CannotBatch` where the path asked for is not to be had.
    """
    if path not in PATHS:
        raise SpecError(unknown("path", path, PATHS))
    if path == "loop":
        return Loop(net=net, space=space, shape=shape)
    try:
        return batched(net, space, shape)
    except CannotBatch as reason:
        if path == "batched":
            raise
        return Loop(net=net, space=space, shape=shape, path=f"loop: {reason}")
