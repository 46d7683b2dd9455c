"""Training: networks of one shape in lockstep, base networks alone, and the plain loop that both are held to."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.fleet.backends import Assignment, assign
    from trueoracle.fleet.checkpoint import forget_abandoned
    from trueoracle.fleet.evaluated import Evaluated, evaluated
    from trueoracle.fleet.fleet import Stopped, Trained
    from trueoracle.fleet.loop import train
    from trueoracle.fleet.lora import check_adapters
    from trueoracle.fleet.objective import objective
    from trueoracle.fleet.stacked import tf32
    from trueoracle.fleet.training import train_alone, train_fleet
    from trueoracle.words.known import Backend

__all__ = [
    "Assignment",
    "Backend",
    "Evaluated",
    "Stopped",
    "Trained",
    "assign",
    "check_adapters",
    "evaluated",
    "forget_abandoned",
    "objective",
    "tf32",
    "train",
    "train_alone",
    "train_fleet",
]

on_demand(__name__)
