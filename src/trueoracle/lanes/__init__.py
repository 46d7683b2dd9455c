"""Sixteen float32 numbers at a time: a vector type for Numba, aligned memory, generated kernels kept on disk.

The rest of the project sees `aligned`, `build` and the `target` that code is made for; what generated kernels may call is in `vector` (one
instruction each), `rows` (several vectors at once: dense layers) and `functions` (powers, logarithms).
"""

from trueoracle.lanes.build import build
from trueoracle.lanes.memory import aligned
from trueoracle.lanes.target import Target, target
from trueoracle.lanes.vector import LANES

__all__ = ["LANES", "Target", "aligned", "build", "target"]
