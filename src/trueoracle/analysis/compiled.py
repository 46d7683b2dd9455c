"""The functions of `tau`, compiled when one is first used, and kept where all compiled code is (see `lanes.build`)."""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trueoracle.analysis import tau
from trueoracle.lanes import build
from trueoracle.words.progress import Quiet

if TYPE_CHECKING:
    from trueoracle.analysis.tau import against, concordance, correlation, paired, relabelled, resampled

__all__ = ["against", "concordance", "correlation", "paired", "relabelled", "resampled"]

_SIGNATURES = {
    "concordance": "int64(int64[::1], int64[::1], int64[::1], int64[::1])",
    "correlation": "float64(float64[::1], float64[::1], int64[::1])",
    "resampled": "float64[:, ::1](float64[::1], float64[::1], int64[::1], int64[::1], int64[:, :])",
    "against": "float64[::1](int64[::1], float64[:, :])",
    "paired": "float64[::1](float64[:, :], float64[:, :])",
    "relabelled": "int64[::1](int64[::1], int64[::1], boolean[:, :], int64[::1], int64[:, :], int64[::1], int64[:, :])",
}
"""What each takes and gives; who is called by another comes before it."""


def __getattr__(name: str) -> Any:
    if name in _SIGNATURES:
        return getattr(_compiled(), name)
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")


@cache
def _compiled() -> ModuleType:
    lines = [f"{name} = njit({words!r}, nogil=True, cache=True)({name})" for name, words in _SIGNATURES.items()]
    return build("tau", "\n".join([Path(tau.__file__).read_text(encoding="utf-8"), *lines, ""]), Quiet())
