"""Arrays that begin on a 64-byte border, as vectors of sixteen float32 need them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BORDER = 64


def aligned(size: int, dtype: type[Any] = np.float32) -> NDArray[Any]:
    """A row of `size` zeros that begins on a 64-byte border."""
    length = size * np.dtype(dtype).itemsize
    raw = np.zeros(length + _BORDER, dtype=np.uint8)
    start = -raw.ctypes.data % _BORDER
    return raw[start : start + length].view(dtype)
