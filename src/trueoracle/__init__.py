"""trueoracle: does the loss of a pruned network before retraining predict how well it does after?"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueoracle.analysis import CellAnalysis, analyze_table
    from trueoracle.api import Study, doctor, pruned_losses, sites, studies
    from trueoracle.words.errors import TrueOracleError
    from trueoracle.words.spec import StudySpec

# Masks are named by integers, and those of large networks have more decimal digits than Python converts by default
# (4,300): half of every layer of ViT-B/16 can be pruned in 10^11,110 ways.
sys.set_int_max_str_digits(max(sys.get_int_max_str_digits(), 100_000))

_HOMES = {
    "CellAnalysis": "analysis",
    "Study": "api",
    "StudySpec": "words.spec",
    "TrueOracleError": "words.errors",
    "analyze_table": "analysis",
    "doctor": "api",
    "pruned_losses": "api",
    "sites": "api",
    "studies": "api",
}

__all__ = [
    "CellAnalysis",
    "Study",
    "StudySpec",
    "TrueOracleError",
    "analyze_table",
    "doctor",
    "pruned_losses",
    "sites",
    "studies",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import trueoracle` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module `trueoracle` has no attribute `{name}`")
    return getattr(import_module(f"trueoracle.{_HOMES[name]}"), name)
