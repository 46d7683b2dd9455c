"""What kind of yes or no: a test against zero, a test of equivalence, both corrected over the cells of a study."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trueoracle.analysis.masks import Values
from trueoracle.analysis.result import Absent, Decision
from trueoracle.analysis.verdict import Answer


@dataclass(frozen=True, kw_only=True)
class PValues:
    """The p-values of one cell: of tau = 0 for the target, of unrelated units, of |tau| >= margin, and the naive one."""

    target: float | Absent
    unit: float | Absent
    naive: float
    equivalence: float | Absent

    @property
    def zero(self) -> float:
        """A relation must pass every test that can be had: the largest p; the naive one where none can."""
        had = [p for p in (self.target, self.unit) if not isinstance(p, Absent)]
        return max(had, default=self.naive)


def decide(tests: Sequence[PValues], margin: float, alpha: float) -> list[Decision]:
    """One decision a cell.

    Each family of tests is corrected over all cells. Absence shown outranks a relation shown: a relation that lies
    within the margin is real and does not matter.
    """
    zero_p = np.array([one.zero for one in tests])
    zero_holm, zero_bh = holm(zero_p), benjamini_hochberg(zero_p)
    had = [place for place, one in enumerate(tests) if not isinstance(one.equivalence, Absent)]
    equal_p = np.array([tests[place].equivalence for place in had], float)
    equal_holm = dict(zip(had, holm(equal_p), strict=True))
    equal_bh = dict(zip(had, benjamini_hochberg(equal_p), strict=True))
    found = []
    for place, one in enumerate(tests):
        none, equal = equal_holm.get(place, 1.0) < alpha, one.equivalence
        found.append(
            Decision(
                answer=Answer.NONE if none else Answer.RELATION if zero_holm[place] < alpha else Answer.UNKNOWN,
                margin=margin,
                alpha=alpha,
                target_p=one.target,
                unit_p=one.unit,
                zero_p=float(zero_p[place]),
                zero_p_naive=isinstance(one.unit, Absent),
                zero_p_holm=float(zero_holm[place]),
                zero_p_bh=float(zero_bh[place]),
                equivalence_p=equal,
                equivalence_p_holm=equal if isinstance(equal, Absent) else float(equal_holm[place]),
                equivalence_p_bh=equal if isinstance(equal, Absent) else float(equal_bh[place]),
                cells=len(tests),
            )
        )
    return found


def holm(p: Values) -> Values:
    """Holm's step-down p-values (Scand. J. Stat. 6, 1979): they bound the chance of any false rejection."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    back = np.empty_like(p)
    back[order] = np.minimum(adjusted, 1.0)
    return back


def benjamini_hochberg(p: Values) -> Values:
    """Benjamini and Hochberg's p-values (J. R. Stat. Soc. B 57, 1995): they bound the expected share of false rejections."""
    order = np.argsort(p, kind="stable")[::-1]
    adjusted = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    back = np.empty_like(p)
    back[order] = np.minimum(adjusted, 1.0)
    return back
