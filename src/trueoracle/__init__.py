"""trueoracle: does the loss of a pruned network before retraining predict how well it does after?"""

import sys
from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.analysis import CellAnalysis, analyze_table
    from trueoracle.api import Study, criteria, doctor, leaderboard, pruned_losses, select, sites, studies
    from trueoracle.selection import load
    from trueoracle.truth import score, table
    from trueoracle.words.errors import TrueOracleError
    from trueoracle.words.spec import StudySpec

# Masks are named by integers, and those of large networks have more decimal digits than Python converts by default
# (4,300): half of every layer of ViT-B/16 can be pruned in 10^11,110 ways.
sys.set_int_max_str_digits(max(sys.get_int_max_str_digits(), 100_000))

__all__ = [
    "CellAnalysis",
    "Study",
    "StudySpec",
    "TrueOracleError",
    "analyze_table",
    "criteria",
    "doctor",
    "leaderboard",
    "load",
    "pruned_losses",
    "score",
    "select",
    "sites",
    "studies",
    "table",
]

on_demand(__name__)
