"""Sixteen float32 numbers at a time: a vector type for Numba, aligned memory, generated kernels kept on disk.

The rest of the project sees `aligned` and `build` only; what generated kernels may call is in `vector` (one
instruction each), `rows` (several vectors at once: dense layers) and `functions` (powers, logarithms).
"""

from trueoracle.lanes.build import build
from trueoracle.lanes.memory import aligned
from trueoracle.lanes.vector import LANES

__all__ = ["LANES", "aligned", "build"]
