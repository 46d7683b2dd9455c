"""The exact oracle of the LeNet5-Mini family: whole mask spaces at the speed of arithmetic."""

from trueoracle.oracle.exact.evaluate import Exact, exact

__all__ = ["Exact", "exact"]
