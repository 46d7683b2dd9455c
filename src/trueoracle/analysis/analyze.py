"""The analysis of cells, part by part; the tests are corrected over all the cells that are analysed together."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from trueoracle.analysis.choice import choice
from trueoracle.analysis.masks import CellMasks, Values, as_measured, x_sign
from trueoracle.analysis.result import (
    Absent,
    Association,
    CellAnalysis,
    Decision,
    PredictorScore,
    Regime,
)
from trueoracle.analysis.verdict import Answer, Caveat, Verdict

_LATER = Absent(why="not computed")
ALPHA, MARGIN = 0.05, 0.1


def analyze_cells(cells: Sequence[CellMasks], xs: Sequence[str]) -> list[CellAnalysis]:
    """One analysis a cell; the first of the predictors `xs` is the one judged, all are ranked."""
    return [_analyze(cell, xs, len(cells)) for cell in cells]


def _analyze(cell: CellMasks, xs: Sequence[str], family: int) -> CellAnalysis:
    x = xs[0]
    association = associate(as_measured(cell.x[x], x), cell.y)
    p = association.kendall_p
    agreement = -x_sign(x) * cell.y_sign * association.kendall_tau
    return CellAnalysis(
        group=cell.group,
        x=x,
        y=cell.y_name,
        n=cell.n,
        trials=cell.trials,
        excluded=cell.excluded,
        verdict=_verdict(agreement, p),
        caveats=(Caveat.NAIVE,),
        association=association,
        null=_LATER,
        ceiling=_LATER,
        decision=Decision(
            answer=Answer.RELATION if p < ALPHA else Answer.UNKNOWN,
            margin=MARGIN,
            alpha=ALPHA,
            zero_p=p,
            zero_p_naive=True,
            zero_p_holm=min(1.0, family * p),
            zero_p_bh=p,
            equivalence_p=_LATER,
            equivalence_p_holm=_LATER,
            equivalence_p_bh=_LATER,
            cells=family,
        ),
        choice=choice(cell, x),
        regime=Regime(
            classes=cell.classes,
            chance_loss=_LATER,
            collapsed_share=_LATER,
            x_main_effects=_LATER,
            y_main_effects=_LATER,
            parameters_kept=cell.parameters_kept,
            operations_kept=cell.operations_kept,
        ),
        predictors=_ranking(cell, xs),
    )


def _ranking(cell: CellMasks, xs: Sequence[str]) -> tuple[PredictorScore, ...]:
    scores = []
    for x in xs:
        tau = stats.kendalltau(as_measured(cell.x[x], x), cell.y)
        worth = choice(cell, x)
        scores.append((-x_sign(x) * cell.y_sign * float(tau.statistic), x, float(tau.pvalue), worth))
    scores.sort(key=lambda score: -score[0])
    return tuple(
        PredictorScore(
            rank=place,
            x=x,
            agreement=agreement,
            interval=_LATER,
            naive_p=p,
            unit_p=_LATER,
            regret=worth.regret,
            percentile=worth.percentile,
            anomaly_ratio=worth.anomaly_ratio,
        )
        for place, (agreement, x, p, worth) in enumerate(scores, start=1)
    )


def associate(x: Values, y: Values) -> Association:
    """The correlations of `x` and `y`, both of shape (n,)."""
    tau, rho, r = stats.kendalltau(x, y), stats.spearmanr(x, y), stats.pearsonr(x, y)
    return Association(
        kendall_tau=float(tau.statistic),
        kendall_interval=_LATER,
        kendall_retraining_interval=_LATER,
        kendall_p=float(tau.pvalue),
        spearman_rho=float(rho.statistic),
        spearman_interval=_LATER,
        spearman_p=float(rho.pvalue),
        pearson_r=float(r.statistic),
        pearson_interval=_LATER,
        pearson_p=float(r.pvalue),
        tied_x=tied_pairs(x),
        tied_y=tied_pairs(y),
        resamples=0,
    )


def tied_pairs(values: Values) -> int:
    """How many pairs of entries are equal."""
    _, counts = np.unique(values, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _verdict(agreement: float, p: float) -> Verdict:
    if p >= ALPHA:
        return Verdict.CANNOT_TELL
    if agreement < 0:
        return Verdict.OPPOSITE
    return Verdict.PREDICTS if agreement >= 0.5 else Verdict.WEAKLY
