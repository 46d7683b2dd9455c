"""Several base networks: each is one case, and what holds for all of them is judged over cases, not over masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trueoracle.analysis.result import Absent, CellAnalysis, Interval
from trueoracle.store import CellRecord
from trueoracle.words.spec import case_name, plain_name

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledCell:
    """One cell of the specification over its base networks.

    `taus` are Kendall's tau of each network, in the order of their numbers; `mean_tau` is their plain mean. `interval`
    is Student's, with one degree of freedom less than there are networks: it speaks of networks that differ from
    these by their seeds alone.
    """

    group: str
    x: str
    y: str
    taus: tuple[float, ...]
    mean_tau: float
    interval: Interval | Absent


def pool(analyses: Sequence[CellAnalysis], cells: Sequence[CellRecord]) -> list[PooledCell]:
    """The cells that several base networks share, in order; none where the study has one base network."""
    bases = sorted({cell.base for cell in cells})
    if len(bases) == 1:
        return []
    found = {analysis.group: analysis for analysis in analyses}
    pooled = []
    for first in (cell for cell in cells if cell.base == bases[0]):
        group = plain_name(first.name, first.base, len(bases))
        names = [case_name(group, base, len(bases)) for base in bases]
        cases = [found[name] for name in names if name in found]
        if cases:
            pooled.append(_pooled(group, cases))
    return pooled


def _pooled(group: str, cases: Sequence[CellAnalysis]) -> PooledCell:
    taus = tuple(case.kendall_tau for case in cases)
    return PooledCell(
        group=group,
        x=cases[0].x,
        y=cases[0].y,
        taus=taus,
        mean_tau=math.fsum(taus) / len(taus),
        interval=over_networks(taus, -1.0, 1.0),
    )


def over_networks(
    values: Sequence[float], low: float = -math.inf, high: float = math.inf, of: str = "base networks"
) -> Interval | Absent:
    """Student's interval of the mean of one value a base network, or whatever else they are `of`, cut at `low` and `high`."""
    if len(values) < 2:
        return Absent(why=f"an interval over {of} needs at least two that are analysed")
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = math.fsum(values) / len(values)
    return Interval(low=max(low, mean - half), high=min(high, mean + half), level=LEVEL)
