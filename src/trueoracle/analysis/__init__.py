"""Numbers from stored trials or from any table: does x, known before retraining, predict y after it? No torch."""

from trueoracle.analysis.cells import analyze_study
from trueoracle.analysis.relation import Relation, relate
from trueoracle.analysis.table import analyze_table, read_table
from trueoracle.analysis.verdict import Verdict

__all__ = ["Relation", "Verdict", "analyze_study", "analyze_table", "read_table", "relate"]
