"""Executors: run independent pieces of work, in any order, and can be told to stop."""

from trueoracle.executors.threads import Executor, Stop, Threads

__all__ = ["Executor", "Stop", "Threads"]
