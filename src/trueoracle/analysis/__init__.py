"""Numbers from stored trials or from any table: does x, known before retraining, predict y after it? No torch."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.analysis.analyze import Options
    from trueoracle.analysis.cells import analyze_study, trial_seconds
    from trueoracle.analysis.claim import Claim
    from trueoracle.analysis.export import as_latex, as_table
    from trueoracle.analysis.leaderboard import Leaderboard, compare
    from trueoracle.analysis.machines import Machines, Takes
    from trueoracle.analysis.masks import CellMasks
    from trueoracle.analysis.metric import Better, Metric, directions
    from trueoracle.analysis.null import LossFunction
    from trueoracle.analysis.planning import Assumptions, Need, from_pilot, needs
    from trueoracle.analysis.pooled import PooledCell, pool
    from trueoracle.analysis.reading import read_table
    from trueoracle.analysis.result import Absent, CellAnalysis, Interval
    from trueoracle.analysis.table import analyze_table
    from trueoracle.analysis.target import Target
    from trueoracle.analysis.verdict import Answer, Caveat, Verdict

__all__ = [
    "Absent",
    "Answer",
    "Assumptions",
    "Better",
    "Caveat",
    "CellAnalysis",
    "CellMasks",
    "Claim",
    "Interval",
    "Leaderboard",
    "LossFunction",
    "Machines",
    "Metric",
    "Need",
    "Options",
    "PooledCell",
    "Takes",
    "Target",
    "Verdict",
    "analyze_study",
    "analyze_table",
    "as_latex",
    "as_table",
    "compare",
    "directions",
    "from_pilot",
    "needs",
    "pool",
    "read_table",
    "trial_seconds",
]

on_demand(__name__)
