"""The analysis of cells, part by part; the tests are corrected over all the cells that are analysed together."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from trueoracle.analysis.ceiling import ceiling, is_low
from trueoracle.analysis.decision import decide
from trueoracle.analysis.masks import CellMasks, Values, as_measured, x_sign
from trueoracle.analysis.null import LossFunction, unit_null
from trueoracle.analysis.rank import Ranked
from trueoracle.analysis.regime import regime
from trueoracle.analysis.regret import choice
from trueoracle.analysis.resample import Resamples, draws, generator, interval, resample, retraining_interval
from trueoracle.analysis.result import (
    Absent,
    Association,
    Ceiling,
    CellAnalysis,
    Choice,
    Decision,
    Interval,
    PredictorScore,
    Regime,
    UnitNull,
)
from trueoracle.analysis.units import Units, units_of
from trueoracle.analysis.verdict import Caveat, judge
from trueoracle.words.errors import TableError
from trueoracle.words.progress import Progress, Quiet


@dataclass(frozen=True, kw_only=True)
class Options:
    """`margin`: below it |tau| does not matter. `alpha`: the level of the tests. `seed`: of every random draw.

    `resamples` is the number of resamples and of relabellings, None for 9,999 and fewer where there are over 4,000 masks.
    `losses` evaluates relabelled masks where they were drawn (see `trueoracle.analysis.null.LossFunction`).
    """

    margin: float = 0.1
    alpha: float = 0.05
    seed: int = 0
    resamples: int | None = None
    losses: LossFunction | None = None

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise TableError(f"`{name}` must lie in (0, 1), but got {value}")
        if self.resamples is not None and self.resamples < 99:
            raise TableError(f"`resamples` must be at least 99, but got {self.resamples}")

    def number(self, n: int) -> int:
        """How many resamples and relabellings of n masks."""
        return self.resamples or draws(n)


@dataclass(frozen=True, kw_only=True)
class _Predicted:
    """One predictor on one cell; `sign` times tau is its agreement."""

    x: str
    sign: float
    values: Values
    association: Association
    drawn: Resamples | Absent
    null: UnitNull | Absent
    choice: Choice

    @property
    def agreement(self) -> float:
        return self.sign * self.association.kendall_tau


@dataclass(frozen=True, kw_only=True)
class _Cell:
    masks: CellMasks
    first: _Predicted
    ceiling: Ceiling | Absent
    regime: Regime
    predictors: tuple[PredictorScore, ...]


def analyze_cells(
    cells: Sequence[CellMasks], xs: Sequence[str], options: Options | None = None, progress: Progress | None = None
) -> list[CellAnalysis]:
    """One analysis a cell; the first of the predictors `xs` is the one judged, every predictor of a cell is ranked."""
    options = options or Options()
    found = []
    with (progress or Quiet()).task("analysing", len(cells), "cells") as advance:
        for cell in cells:
            found.append(_cell(cell, xs[0], options))
            advance(1)
    decisions = decide(
        [_zero(cell.first) for cell in found],
        [d if isinstance(d := cell.first.drawn, Absent) else d.p_within(options.margin) for cell in found],
        options.margin,
        options.alpha,
    )
    return [_whole(cell, decision) for cell, decision in zip(found, decisions, strict=True)]


def _cell(cell: CellMasks, x: str, options: Options) -> _Cell:
    units = units_of(cell)
    found = {name: _predict(cell, name, units, options) for name in cell.x}
    first = found[x]
    return _Cell(
        masks=cell,
        first=first,
        ceiling=ceiling(cell, first.agreement, first.sign, first.drawn, options.number(cell.n), options.seed),
        regime=regime(cell, first.values, units),
        predictors=_ranking(list(found.values())),
    )


def _predict(cell: CellMasks, x: str, units: Units | Absent, options: Options) -> _Predicted:
    """Every predictor meets the same resamples and relabellings, so that they are compared on equal terms."""
    values, number = as_measured(cell.x[x], x), options.number(cell.n)
    drawn = resample(values, cell.y, number, generator(options.seed, cell.group, "masks"))
    again = retraining_interval(cell, values, number, generator(options.seed, cell.group, "repeats"))
    association = associate(values, cell.y, drawn, again)
    losses = options.losses if x == "pruned_train_loss" else None
    return _Predicted(
        x=x,
        sign=-x_sign(x) * cell.y_sign,
        values=values,
        association=association,
        drawn=drawn,
        null=unit_null(cell, values, units, number, generator(options.seed, cell.group, "units"), losses),
        choice=choice(cell, x, number, generator(options.seed, cell.group, "tenth")),
    )


def associate(x: Values, y: Values, drawn: Resamples | Absent, again: Interval | Absent) -> Association:
    """The correlations of `x` and `y`, both of shape (n,), with intervals from what was `drawn`."""
    ranked, tau = Ranked.of(x, y), stats.kendalltau(x, y)
    rho, r = stats.spearmanr(x, y), stats.pearsonr(x, y)
    of_tau, of_rho, of_r = (drawn,) * 3 if isinstance(drawn, Absent) else map(interval, (drawn.tau, drawn.rho, drawn.r))
    return Association(
        kendall_tau=ranked.tau,
        kendall_interval=of_tau,
        kendall_retraining_interval=again,
        kendall_p=float(tau.pvalue),
        spearman_rho=float(rho.statistic),
        spearman_interval=of_rho,
        spearman_p=float(rho.pvalue),
        pearson_r=float(r.statistic),
        pearson_interval=of_r,
        pearson_p=float(r.pvalue),
        tied_x=ranked.tied_x,
        tied_y=ranked.tied_y,
        resamples=0 if isinstance(drawn, Absent) else len(drawn.tau),
    )


def _ranking(found: list[_Predicted]) -> tuple[PredictorScore, ...]:
    """Predictors from the best: by agreement, equal ones in the order asked for."""
    found = sorted(found, key=lambda one: -one.agreement)
    return tuple(
        PredictorScore(
            rank=place,
            x=one.x,
            agreement=one.agreement,
            interval=one.drawn if isinstance(one.drawn, Absent) else interval(one.sign * one.drawn.tau),
            naive_p=one.association.kendall_p,
            unit_p=one.null if isinstance(one.null, Absent) else one.null.p,
            regret=one.choice.regret,
            percentile=one.choice.percentile,
            anomaly_ratio=one.choice.anomaly_ratio,
        )
        for place, one in enumerate(found, start=1)
    )


def _zero(one: _Predicted) -> tuple[float, bool]:
    """P against zero, and whether it is naive."""
    return (one.association.kendall_p, True) if isinstance(one.null, Absent) else (one.null.p, False)


def _whole(cell: _Cell, decision: Decision) -> CellAnalysis:
    first = cell.first
    return CellAnalysis(
        group=cell.masks.group,
        x=first.x,
        y=cell.masks.y_name,
        n=cell.masks.n,
        trials=cell.masks.trials,
        excluded=cell.masks.excluded,
        verdict=judge(decision.answer, first.agreement, is_low(cell.ceiling, decision.margin)),
        caveats=tuple(_caveats(cell)),
        association=first.association,
        null=first.null,
        ceiling=cell.ceiling,
        decision=decision,
        choice=first.choice,
        regime=cell.regime,
        predictors=cell.predictors,
    )


def _caveats(cell: _Cell) -> list[Caveat]:
    share = cell.regime.collapsed_share
    share = 0.0 if isinstance(share, Absent) else share
    holds = {
        Caveat.COLLAPSED: share == 1,
        Caveat.MOSTLY_COLLAPSED: 0.5 < share < 1,
        Caveat.NAIVE: isinstance(cell.first.null, Absent),
        Caveat.ONE_REPEAT: cell.masks.y_nR.shape[1] < 2,
        Caveat.LEFT_OUT: cell.masks.excluded > 0,
    }
    return [caveat for caveat, true in holds.items() if true]
