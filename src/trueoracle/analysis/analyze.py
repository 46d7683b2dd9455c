"""The analysis of cells, part by part; the tests are corrected over all the cells that are analysed together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trueoracle.analysis.ceiling import ceiling
from trueoracle.analysis.decision import PValues, decide, holm
from trueoracle.analysis.masks import CellMasks, Values
from trueoracle.analysis.null import Draws, LossFunction, unit_null
from trueoracle.analysis.other_images import OtherImages, answers_of, other_images, others
from trueoracle.analysis.rank import Ranked
from trueoracle.analysis.regime import regime
from trueoracle.analysis.regret import choice
from trueoracle.analysis.resample import (
    Resamples,
    draws,
    generator,
    interval,
    of_space,
    p_within,
    resample,
    retrained,
)
from trueoracle.analysis.result import (
    Absent,
    Association,
    Ceiling,
    CellAnalysis,
    Choice,
    Decision,
    Interval,
    NullKind,
    OnOthers,
    PredictorScore,
    Regime,
    Spread,
    Stratified,
    UnitNull,
)
from trueoracle.analysis.spread import mask_error, spread
from trueoracle.analysis.stratified import stratified
from trueoracle.analysis.target import Target
from trueoracle.analysis.units import Units, units_of
from trueoracle.analysis.verdict import Caveat, judge
from trueoracle.words.errors import TableError
from trueoracle.words.progress import Progress, Quiet

_ONE_NETWORK = Absent(why="one base network says nothing of others: a study of several has an interval over them")


@dataclass(frozen=True, kw_only=True)
class Options:
    """`margin`: below it |tau| does not matter. `alpha`: the level of the tests. `seed`: of every random draw.

    `target` says what intervals and tests speak of: None for other images where the answers to single images are known,
    else the space. `other_images` is how many of them, None for as many as were tested on but at least 5,000.
    `resamples` is the number of resamples and of relabellings, None for 9,999 and fewer where there are over 4,000 masks;
    more relabellings are drawn where the correction over many cells needs them.
    `losses` evaluates relabelled masks where they were drawn (see `trueoracle.analysis.null.LossFunction`).
    """

    margin: float = 0.1
    alpha: float = 0.05
    seed: int = 0
    target: Target | None = None
    other_images: int | None = None
    resamples: int | None = None
    losses: LossFunction | None = None

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise TableError(f"`{name}` must lie in (0, 1), but got {value}")
        if self.resamples is not None and self.resamples < 99:
            raise TableError(f"`resamples` must be at least 99, but got {self.resamples}")
        if self.other_images is not None and self.other_images < 1:
            raise TableError(f"`other_images` must be at least 1, but got {self.other_images}")

    def number(self, n: int) -> int:
        """How many resamples and relabellings of n masks."""
        return self.resamples or draws(n)


@dataclass(frozen=True, kw_only=True)
class _Predicted:
    """One predictor on one cell, place `k` among its predictors; `sign` times tau is its agreement."""

    k: int
    x: str
    sign: float
    values: Values
    association: Association
    space: Resamples | Absent
    null: UnitNull | Absent
    choice: Choice

    @property
    def agreement(self) -> float:
        return self.sign * self.association.kendall_tau


@dataclass(frozen=True, kw_only=True)
class _Cell:
    masks: CellMasks
    target: Target
    first: _Predicted
    tests: PValues
    on_others: OnOthers | Absent
    ceiling: Ceiling | Absent
    regime: Regime
    spread: Spread | Absent
    predictors: tuple[PredictorScore, ...]
    stratified: Stratified | Absent


def analyze_cells(
    cells: Sequence[CellMasks], xs: Sequence[str], options: Options | None = None, progress: Progress | None = None
) -> list[CellAnalysis]:
    """One analysis a cell; the first of the predictors `xs` is the one judged, every predictor of a cell is ranked."""
    options = options or Options()
    for cell in cells:
        cell.check_metrics()
    found: list[_Cell] = []
    with (progress or Quiet()).task("analysing", len(cells), "cells") as advance:
        for cell in cells:
            found.append(_cell(cell, xs[0], options, len(cells)))
            advance(1)
    decisions = decide([cell.tests for cell in found], options.margin, options.alpha)
    return [_whole(cell, decision) for cell, decision in zip(found, decisions, strict=True)]


def _cell(cell: CellMasks, x: str, options: Options, cells: int) -> _Cell:
    units, number = units_of(cell), options.number(cell.n)
    again = {
        name: retrained(
            cell, cell.metric_of(name).measured(values), number, generator(options.seed, cell.group, "repeats")
        )
        for name, values in cell.x.items()
    }
    answers = answers_of(cell)
    elsewhere: OtherImages | Absent = (
        answers
        if isinstance(answers, Absent)
        else other_images(
            cell,
            answers,
            again,
            options.other_images or others(answers.images),
            generator(options.seed, cell.group, "images"),
        )
    )
    target = options.target or (Target.SPACE if isinstance(elsewhere, Absent) else Target.IMAGES)
    found = [
        _predict(cell, k, name, units, again[name], Draws.enough(number, cells, options.alpha), options)
        for k, name in enumerate(cell.x)
    ]
    first = next(one for one in found if one.x == x)
    on_others = elsewhere if isinstance(elsewhere, Absent) else _on_others(cell, elsewhere, first, options.margin)
    return _Cell(
        masks=cell,
        target=target,
        first=first,
        tests=_tests(first, target, on_others, again[x], _exhaustive(cell, units), options.margin),
        on_others=on_others,
        ceiling=ceiling(cell, options.seed),
        regime=regime(cell, first.values, units),
        spread=answers if isinstance(answers, Absent) else spread(answers),
        predictors=_ranking(found, x, target, elsewhere),
        stratified=stratified(cell, x, options.seed),
    )


def _exhaustive(cell: CellMasks, units: Units | Absent) -> bool:
    return cell.space == cell.n or (not isinstance(units, Absent) and units.exhaustive)


def _predict(
    cell: CellMasks,
    k: int,
    x: str,
    units: Units | Absent,
    again: Values | Absent,
    relabellings: Draws,
    options: Options,
) -> _Predicted:
    """Every predictor meets the same resamples and relabellings, so that they are compared on equal terms."""
    column, number = cell.metric_of(x), options.number(cell.n)
    values = column.measured(cell.x[x])
    drawn = resample(values, cell.y, number, generator(options.seed, cell.group, "masks"))
    tau = Ranked.of(values, cell.y).tau
    space = of_space(cell, tau, drawn, again, _exhaustive(cell, units))
    losses = options.losses if x == "pruned_train_loss" else None
    return _Predicted(
        k=k,
        x=x,
        sign=column.sign * cell.y_metric.sign,
        values=values,
        association=associate(values, cell.y, space, again),
        space=space,
        null=unit_null(cell, x, units, relabellings, generator(options.seed, cell.group, "units"), losses),
        choice=choice(cell, x, number, options.seed, options.other_images),
    )


def associate(x: Values, y: Values, space: Resamples | Absent, again: Values | Absent) -> Association:
    """The correlations of `x` and `y`, both of shape (n,), with intervals from resamples of the `space` and of retraining."""
    ranked, tau = Ranked.of(x, y), stats.kendalltau(x, y)
    rho, r = stats.spearmanr(x, y), stats.pearsonr(x, y)
    return Association(
        kendall_tau=ranked.tau,
        kendall_interval=_interval(space, "tau"),
        kendall_retraining_interval=interval(again),
        kendall_p=float(tau.pvalue),
        spearman_rho=float(rho.statistic),
        spearman_interval=_interval(space, "rho"),
        spearman_p=float(rho.pvalue),
        pearson_r=float(r.statistic),
        pearson_interval=_interval(space, "r"),
        pearson_p=float(r.pvalue),
        tied_x=ranked.tied_x,
        tied_y=ranked.tied_y,
        resamples=0 if isinstance(space, Absent) else len(space.tau),
    )


def _interval(space: Resamples | Absent, name: str) -> Interval | Absent:
    if isinstance(space, Absent):
        return space
    values = getattr(space, name)
    if values is None:
        return Absent(
            why="every mask of the space is here, so none were drawn; what retraining adds is told of tau alone"
        )
    return interval(np.clip(values, -1.0, 1.0))


def _on_others(cell: CellMasks, elsewhere: OtherImages, first: _Predicted, margin: float) -> OnOthers:
    tau, of_tau = elsewhere.tau(first.k)
    top, of_top = elsewhere.ceiling()
    relative = elsewhere.relative(first.k)
    assert cell.test is not None, "what other images show is told from answers"
    return OnOthers(
        images=elsewhere.found.images,
        other_images=elsewhere.number,
        tau=tau,
        interval=of_tau,
        zero_p=elsewhere.zero_p(first.k),
        equivalence_p=elsewhere.equivalence_p(first.k, margin),
        ceiling=top,
        ceiling_interval=of_top,
        relative_tau=relative if isinstance(relative, Absent) else relative[0],
        relative_interval=relative if isinstance(relative, Absent) else relative[1],
        reliability=elsewhere.reliability,
        deviation=elsewhere.deviation(first.k),
        mask_error=mask_error(cell.test, int(np.argmax(cell.promise(first.x)))),
    )


def _tests(
    first: _Predicted,
    target: Target,
    on_others: OnOthers | Absent,
    again: Values | Absent,
    exhaustive: bool,
    margin: float,
) -> PValues:
    unit = first.null if isinstance(first.null, Absent) else first.null.p
    tau, naive = first.association.kendall_tau, first.association.kendall_p
    zero: float | Absent
    equal: float | Absent
    if target is Target.IMAGES:
        zero = on_others if isinstance(on_others, Absent) else on_others.zero_p
        equal = on_others if isinstance(on_others, Absent) else on_others.equivalence_p
    elif target is Target.NETWORKS:
        zero, equal = unit, _ONE_NETWORK
    else:
        # Masks drawn one by one from a space are independent draws: there the usual p is that of the space.
        zero = _zero_p(tau, again) if exhaustive else naive
        equal = first.space if isinstance(first.space, Absent) else p_within(tau, float(first.space.tau.std()), margin)
    return PValues(target=zero, unit=unit, naive=naive, equivalence=equal)


def _zero_p(tau: float, again: Values | Absent) -> float | Absent:
    """Two-sided p of tau = 0 over other retrainings."""
    if isinstance(again, Absent):
        return again
    deviation = float(again.std())
    return float(tau == 0) if deviation == 0 else float(2 * stats.norm.sf(abs(tau) / deviation))


def _ranking(
    found: list[_Predicted], x: str, target: Target, elsewhere: OtherImages | Absent
) -> tuple[PredictorScore, ...]:
    """Predictors from the best: by agreement, equal ones in the order asked for."""
    p = np.array([one.association.kendall_p if isinstance(one.null, Absent) else one.null.p for one in found])
    corrected = dict(zip((one.x for one in found), holm(p).tolist(), strict=True))
    named = {one.x: one for one in found}
    ranked = sorted(found, key=lambda one: -one.agreement)
    return tuple(
        PredictorScore(
            rank=place,
            x=one.x,
            agreement=one.agreement,
            interval=_agreement_interval(one, target, elsewhere),
            naive_p=one.association.kendall_p,
            unit_p=one.null if isinstance(one.null, Absent) else one.null.p,
            p_holm=corrected[one.x],
            over_first=_over(one, named, x, target, elsewhere),
            over_random=_over(one, named, "random", target, elsewhere),
            regret=one.choice.regret,
            percentile=one.choice.percentile,
            anomaly_ratio=one.choice.anomaly_ratio,
        )
        for place, one in enumerate(ranked, start=1)
    )


def _agreement_interval(one: _Predicted, target: Target, elsewhere: OtherImages | Absent) -> Interval | Absent:
    found: Interval | Absent = one.association.kendall_interval
    if target is Target.IMAGES:
        found = elsewhere if isinstance(elsewhere, Absent) else elsewhere.tau(one.k)[1]
    elif target is Target.NETWORKS:
        found = _ONE_NETWORK
    if isinstance(found, Absent) or one.sign > 0:
        return found
    return Interval(low=-found.high, high=-found.low, level=found.level)


def _over(
    one: _Predicted, named: Mapping[str, _Predicted], name: str, target: Target, elsewhere: OtherImages | Absent
) -> Interval | Absent:
    """The interval of the agreement less that of predictor `name`, over the same images or the same resamples."""
    other = named.get(name)
    if other is None:
        return Absent(why=f"`{name}` is not among the predictors")
    if other is one:
        return Absent(why="it is this predictor itself")
    if target is Target.NETWORKS:
        return _ONE_NETWORK
    if target is Target.IMAGES:
        return elsewhere if isinstance(elsewhere, Absent) else elsewhere.over(one.k, other.k)
    if isinstance(one.space, Absent) or isinstance(other.space, Absent):
        return one.space if isinstance(one.space, Absent) else _gone(other.space)
    if len(one.space.tau) != len(other.space.tau):
        return Absent(why="too many resamples were constant to be paired")
    return interval(one.sign * one.space.tau - other.sign * other.space.tau)


def _gone(space: Resamples | Absent) -> Absent:
    assert isinstance(space, Absent)
    return space


def _whole(cell: _Cell, decision: Decision) -> CellAnalysis:
    first = cell.first
    return CellAnalysis(
        group=cell.masks.group,
        x=first.x,
        y=cell.masks.y_name,
        x_better=cell.masks.metric_of(first.x).better,
        y_better=cell.masks.y_metric.better,
        target=cell.target,
        n=cell.masks.n,
        space=Absent(why="a table does not say how many masks there are in all")
        if cell.masks.space is None
        else cell.masks.space,
        trials=cell.masks.trials,
        excluded=cell.masks.excluded,
        verdict=judge(decision.answer, first.agreement, _drowned(cell, decision.margin)),
        caveats=tuple(_caveats(cell)),
        association=first.association,
        on_others=cell.on_others,
        null=first.null,
        ceiling=cell.ceiling,
        spread=cell.spread,
        decision=decision,
        choice=first.choice,
        regime=cell.regime,
        predictors=cell.predictors,
        stratified=cell.stratified,
    )


def _drowned(cell: _Cell, margin: float) -> bool:
    """Whether even a perfect predictor would stay within twice the margin: noise drowns every order."""
    if cell.target is Target.IMAGES and not isinstance(cell.on_others, Absent):
        return cell.on_others.ceiling < 2 * margin
    return not isinstance(cell.ceiling, Absent) and cell.ceiling.tau < 2 * margin


def _caveats(cell: _Cell) -> list[Caveat]:
    share = cell.regime.collapsed_share
    share = 0.0 if isinstance(share, Absent) else share
    holds = {
        Caveat.COLLAPSED: share == 1,
        Caveat.MOSTLY_COLLAPSED: 0.5 < share < 1,
        Caveat.NAIVE: isinstance(cell.first.null, Absent),
        Caveat.MODELLED: not isinstance(null := cell.first.null, Absent) and null.kind is NullKind.MAIN_EFFECTS,
        Caveat.THESE_IMAGES: isinstance(cell.on_others, Absent),
        Caveat.ONE_REPEAT: cell.masks.y_nR.shape[1] < 2,
        Caveat.LEFT_OUT: cell.masks.excluded > 0,
        Caveat.SEARCHED: cell.masks.searched > 0,
    }
    return [caveat for caveat, true in holds.items() if true]
