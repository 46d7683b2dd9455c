"""Searches of a mask space that is too large to evaluate whole: they propose masks and are told losses. No torch."""

from typing import TYPE_CHECKING

from trueoracle.words.rooms import on_demand

if TYPE_CHECKING:
    from trueoracle.search.budget import Budget, Hunt
    from trueoracle.search.cr_diff import rank_of, ratio_space, ratios_of
    from trueoracle.search.found import Found
    from trueoracle.search.memory import Judge, Judged, Memory
    from trueoracle.search.methods import SEARCHES, find_search
    from trueoracle.search.problem import Ask, Asking, Ceiling, Method, Problem
    from trueoracle.search.rows import ROWS, check_rows, row_by_row, row_evaluations
    from trueoracle.search.run import check_search, search

__all__ = [
    "ROWS",
    "SEARCHES",
    "Ask",
    "Asking",
    "Budget",
    "Ceiling",
    "Found",
    "Hunt",
    "Judge",
    "Judged",
    "Memory",
    "Method",
    "Problem",
    "check_rows",
    "check_search",
    "find_search",
    "rank_of",
    "ratio_space",
    "ratios_of",
    "row_by_row",
    "row_evaluations",
    "search",
]

on_demand(__name__)
