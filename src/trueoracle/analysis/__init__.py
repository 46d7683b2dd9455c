"""Numbers from stored trials or from any table: does x, known before retraining, predict y after it? No torch."""

from trueoracle.analysis.cells import analyze_study
from trueoracle.analysis.masks import CellMasks
from trueoracle.analysis.pooled import PooledCell, pool
from trueoracle.analysis.result import Absent, CellAnalysis, Interval
from trueoracle.analysis.table import analyze_table, read_table
from trueoracle.analysis.verdict import Answer, Caveat, Verdict

__all__ = [
    "Absent",
    "Answer",
    "Caveat",
    "CellAnalysis",
    "CellMasks",
    "Interval",
    "PooledCell",
    "Verdict",
    "analyze_study",
    "analyze_table",
    "pool",
    "read_table",
]
