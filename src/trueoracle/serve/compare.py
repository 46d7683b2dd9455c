"""Studies and cells side by side: which ones an address names, and their analyses line by line."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trueoracle.analysis import CellAnalysis
from trueoracle.report.forest import forest
from trueoracle.report.page import line_of
from trueoracle.serve.beside import Analysed, State
from trueoracle.serve.summary import Summary

MOST_STUDIES, MOST_LINES, MOST_PICTURES = 12, 120, 8


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One cell of one study; `pictures` are its scatter and curves."""

    cell: str
    number: int
    study: Summary
    analysis: CellAnalysis
    pictures: Sequence[str]


def compared(studies: Sequence[tuple[Summary, State[Analysed]]], cells: Sequence[str]) -> list[Compared]:
    """The cells called `cells` of each study, the same cells beside each other; of none, those that all studies have, or else all."""
    found = [
        Compared(
            cell=analysis.group, number=number, study=study, analysis=analysis, pictures=state.newest.pictures[number]
        )
        for study, state in studies
        if state.newest
        for number, analysis in state.newest.analyses.items()
    ]
    known = [{line.cell for line in found if line.study is study} for study, _ in studies]
    order = list(dict.fromkeys(line.cell for line in found))
    wanted = set(cells) or (set.intersection(*known) if known else set()) or set(order)
    return sorted((line for line in found if line.cell in wanted), key=lambda line: order.index(line.cell))[:MOST_LINES]


def overview(lines: Sequence[Compared], *, several: bool) -> Markup:
    """Every line's tau with its interval; named by the study too where there are `several`."""
    return forest(
        [line_of(f"{line.cell}, {line.study.record.name}" if several else line.cell, line.analysis) for line in lines],
        "Kendall's tau of what is compared",
        "a cell",
    )
