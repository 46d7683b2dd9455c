"""What a study found, as one self-contained HTML page or as figures for a manuscript. Reads only the store."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.report.figures import write_figures
    from trueoracle.report.page import write_report
    from trueoracle.report.ranking import check_ranking_path, write_ranking
    from trueoracle.report.selection_page import write_selection_report

__all__ = ["check_ranking_path", "write_figures", "write_ranking", "write_report", "write_selection_report"]

on_demand(__name__)
