"""Every statistic against a hand-computed example or a trusted library, and against what it cannot bear."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simulated import X, Y, all_kept, cell, drawn_kept
from trueoracle import Study, analyze_table
from trueoracle.analysis import Absent, Answer, Caveat, CellAnalysis, CellMasks, Options, Verdict, as_latex, as_table
from trueoracle.analysis.analyze import analyze_cells
from trueoracle.analysis.ceiling import ceiling, to_repeats
from trueoracle.analysis.decision import PValues, benjamini_hochberg, decide, holm
from trueoracle.analysis.null import Draws, unit_null
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.regret import at_k, choice, percentile
from trueoracle.analysis.resample import Resamples, p_within, resample, retrained
from trueoracle.analysis.result import Ceiling, NullKind, RegretBasis, UnitNull
from trueoracle.analysis.units import MainEffects, Units, units_of
from trueoracle.analysis.verdict import judge
from trueoracle.words.errors import TableError

FEW = Options(resamples=199)


def analyse(masks: CellMasks, options: Options = FEW) -> CellAnalysis:
    (found,) = analyze_cells([masks], [X], options)
    return found


# Association


def test_a_small_example_by_hand() -> None:
    # Pairs: 10; of x and y in the same order 2, in reverse order 8: tau = (2 - 8) / 10.
    found = analyse(cell(np.array([1.0, 2, 3, 4, 5]), np.array([8.0, 9, 7, 5, 6])))
    assert found.kendall_tau == pytest.approx(-0.6)
    assert found.agreement == pytest.approx(0.6)
    assert (found.n, found.choice.anomalies, found.anomaly_ratio) == (5, 1, 0.2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=60))
def test_tau_is_scipys_ties_and_all(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, float).T
    if np.ptp(x) and np.ptp(y):
        assert kendall_tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


def test_tau_of_40_000_points_is_scipys() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=40_000)
    y = np.round(x + rng.normal(size=40_000), 2)
    assert kendall_tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


def test_resamples_are_what_scipy_gives_for_the_same_draws() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 9, 30).astype(float), rng.normal(size=30).round(1)
    found = resample(x, y, 20, np.random.default_rng(3))
    assert isinstance(found, Resamples)
    for b, drawn in enumerate(np.random.default_rng(3).integers(0, 30, (20, 30))):
        assert found.tau[b] == pytest.approx(stats.kendalltau(x[drawn], y[drawn]).statistic, abs=1e-12)
        assert found.rho[b] == pytest.approx(stats.spearmanr(x[drawn], y[drawn]).statistic, abs=1e-12)
        assert found.r[b] == pytest.approx(stats.pearsonr(x[drawn], y[drawn]).statistic, abs=1e-12)


def test_a_reversed_order_is_minus_one_and_predicts() -> None:
    x = np.arange(20.0)
    found = analyse(cell(x, -x))
    assert found.kendall_tau == -1
    assert found.choice.anomalies == 0
    assert found.choice.percentile == 1
    assert found.verdict is Verdict.PREDICTS
    assert analyse(cell(x, x)).verdict is Verdict.OPPOSITE


def test_ties_are_counted_and_an_equal_result_is_no_anomaly() -> None:
    found = analyse(cell(np.array([1.0, 2, 2, 2, 3]), np.array([5.0, 5, 5, 6, 1])))
    assert (found.association.tied_x, found.association.tied_y, found.choice.anomalies) == (3, 3, 1)
    assert found.choice.tied_with_oracle == 2


def test_with_a_loss_as_the_result_lower_is_better_and_with_an_accuracy_as_the_predictor_higher() -> None:
    rank = np.arange(20.0)
    table = pd.DataFrame({"pruned_train_loss": rank, "early_accuracy": -rank, "final_test_loss": rank})
    (found,) = analyze_table(table, ["pruned_train_loss", "early_accuracy"], "final_test_loss", options=FEW)
    assert [one.agreement for one in found.predictors] == [1, 1]
    assert found.choice.anomalies == 0


def test_the_same_seed_gives_the_same_figures_and_another_does_not() -> None:
    rng = np.random.default_rng(4)
    masks = cell(rng.normal(size=40), rng.normal(size=(40, 2)), drawn_kept(12, 40, rng))
    assert analyse(masks) == analyse(masks)
    assert analyse(masks) != analyse(masks, Options(resamples=199, seed=1))


# The null of relabelled units


def draws(number: int) -> Draws:
    return Draws(first=number, most=number)


def by_brute_force(x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> list[float]:
    """tau for every relabelling of the units of one site, mask by mask through a dictionary."""
    from itertools import permutations

    row = {tuple(mask): place for place, mask in enumerate(kept)}
    return [
        stats.kendalltau(x[[row[tuple(mask[list(order)])] for mask in kept]], y).statistic
        for order in permutations(range(kept.shape[1]))
    ]


def test_over_an_exhaustive_space_every_relabelling_is_taken_and_p_is_exact() -> None:
    rng = np.random.default_rng(5)
    kept = all_kept(5, 2)
    x, y = rng.normal(size=10), rng.normal(size=10)
    found = unit_null(cell(x, y), X, Units(sizes={"conv": 5}, kept_nU=kept), draws(120), rng)
    assert isinstance(found, UnitNull)
    taus = by_brute_force(-x, y, kept)
    assert found.kind is NullKind.ALL
    assert sorted(found.taus) == pytest.approx(sorted(taus), abs=1e-12)
    assert found.p == np.mean(np.abs(taus) >= abs(stats.kendalltau(x, y).statistic) - 1e-9)
    assert (found.relabellings, found.p_error) == (120, 0)


def test_two_sites_are_relabelled_each_within_itself_in_any_order_of_rows() -> None:
    """Against the loss function that is a sum of unit effects: the same taus, relabelling by relabelling."""
    rng = np.random.default_rng(6)
    kept = np.array([[*a, *b] for a in all_kept(4, 2) for b in all_kept(3, 2)])[rng.permutation(18)]
    effects, y = rng.normal(size=7), rng.normal(size=18)
    x = kept @ effects
    units = Units(sizes={"a": 4, "b": 3}, kept_nU=kept)
    assert units.exhaustive
    found = unit_null(cell(x, y), X, units, draws(4 * 3 * 2 * 3 * 2), rng)
    assert isinstance(found, UnitNull)
    taus = [
        stats.kendalltau(-(kept[:, [*a, *(4 + u for u in b)]] @ effects), y).statistic
        for a in _orders(4)
        for b in _orders(3)
    ]
    assert sorted(found.taus) == pytest.approx(sorted(taus), abs=1e-9)


def _orders(n: int) -> list[tuple[int, ...]]:
    from itertools import permutations

    return list(permutations(range(n)))


def test_the_modelled_null_of_drawn_masks_spreads_as_the_true_losses_do() -> None:
    rng = np.random.default_rng(7)
    kept, effects = drawn_kept(12, 200, rng), rng.normal(size=12)
    x, y = kept @ effects, kept @ rng.normal(size=12)
    units = Units(sizes={"conv": 12}, kept_nU=kept)
    modelled = unit_null(cell(x, y), X, units, draws(999), rng)
    evaluated = unit_null(cell(x, y), X, units, draws(199), rng, lambda _, masks: masks @ effects)
    assert isinstance(modelled, UnitNull)
    assert isinstance(evaluated, UnitNull)
    assert (modelled.kind, evaluated.kind) == (NullKind.MAIN_EFFECTS, NullKind.LOSS_FUNCTION)
    assert modelled.abs_tau_95 == pytest.approx(evaluated.abs_tau_95, abs=0.06)


def test_main_effects_explain_what_is_additive_and_nothing_of_noise() -> None:
    rng = np.random.default_rng(8)
    kept = all_kept(8, 4)
    units = Units(sizes={"conv": 8}, kept_nU=kept)
    additive, noise = units.fit(kept @ rng.normal(size=8)), units.fit(rng.normal(size=70))
    assert isinstance(additive, MainEffects)
    assert isinstance(noise, MainEffects)
    assert additive.share == pytest.approx(1)
    assert noise.share < 0.15
    assert units.effects == 7


def test_a_single_relabelling_unit_changes_nothing_and_p_is_one() -> None:
    """Sites of one kept and one pruned unit have two labellings, and tau only changes its sign."""
    kept = np.array([[*a, *b] for a in ((0, 1), (1, 0)) for b in ((0, 1), (1, 0))], np.bool_)
    x = kept @ np.array([1.0, 0, 2, 0])
    found = unit_null(cell(x, -x), X, Units(sizes={"a": 2, "b": 2}, kept_nU=kept), draws(99), np.random.default_rng(9))
    assert isinstance(found, UnitNull)
    assert found.relabellings == 4
    assert found.p == 0.5


@pytest.mark.parametrize(
    ("pruned", "why"),
    [
        (None, "there is no column `pruned`"),
        (["[1]"] * 12, None),
        ([json.dumps({"conv": [unit]}) for unit in range(11)] + ['{"conv": [0, 1]}'], "do not all prune the same number"),
        (['{"conv": [0]}'] * 12, "some rows are of the same mask"),
        ([json.dumps({"conv": [a, b]}) for a, b in list(combinations(range(6), 2))[:12]], "a draw of masks"),
    ],
)  # fmt: skip
def test_units_that_cannot_be_known_are_said(pruned: list[str] | None, why: str | None) -> None:
    masks = CellMasks(
        group="g", x={X: np.arange(12.0)}, y_name=Y, y_nR=np.arange(12.0)[:, None], pruned=pruned and tuple(pruned)
    )
    if why is None:
        with pytest.raises(TableError, match="column `pruned` must hold JSON such as"):
            units_of(masks)
    else:
        found = units_of(masks)
        assert isinstance(found, Absent)
        assert why in found.why


def test_an_exhaustive_table_betrays_its_units() -> None:
    rng = np.random.default_rng(10)
    table = pd.DataFrame(
        {
            "pruned": [json.dumps({"conv1": list(pair)}) for pair in combinations(range(5), 2)],
            X: rng.normal(size=10),
            Y: rng.normal(size=10),
        }
    )
    (found,) = analyze_table(table, options=FEW)
    assert isinstance(found.null, UnitNull)
    assert found.null.kind is NullKind.ALL
    assert Caveat.NAIVE not in found.caveats


def test_too_few_masks_for_the_units_is_said() -> None:
    rng = np.random.default_rng(11)
    kept = drawn_kept(40, 50, rng)
    x = rng.normal(size=50)
    found = unit_null(cell(x, x), X, Units(sizes={"conv": 40}, kept_nU=kept), draws(99), rng)
    assert isinstance(found, Absent)
    assert found.why.startswith("50 masks cannot bear a model of 39 free unit effects")


# The ceiling


def test_reliability_of_means_by_hand() -> None:
    # sin(pi / 2 * 1 / 3) = 1 / 2; three repeats: 3 / 2 / (1 + 2 / 2) = 3 / 4.
    assert to_repeats(np.array(1 / 3), 3) == pytest.approx(0.75)
    assert to_repeats(np.array(-0.2), 3) == 0


def test_without_noise_the_ceiling_is_one_and_with_nothing_but_noise_it_is_low() -> None:
    rng = np.random.default_rng(12)
    expected = rng.normal(size=300)
    clean = ceiling(cell(expected, expected[:, None] + 1e-9 * rng.normal(size=(300, 2))), 0)
    noise = ceiling(cell(expected, rng.normal(size=(300, 2))), 0)
    assert isinstance(clean, Ceiling)
    assert isinstance(noise, Ceiling)
    assert clean.tau == pytest.approx(1, abs=0.01)
    assert noise.tau < 0.3


@pytest.mark.parametrize(
    ("y_nR", "why"),
    [
        (np.arange(20.0)[:, None], "one result a mask is known"),
        (np.arange(10.0).reshape(5, 2), "5 masks with all their repeats are too few"),
        (np.column_stack([np.arange(20.0), np.ones(20)]), "all masks end alike in some repeat"),
    ],
)
def test_a_ceiling_that_cannot_be_had_is_said(y_nR: np.ndarray, why: str) -> None:
    found = ceiling(cell(np.arange(float(len(y_nR))), y_nR), 0)
    assert isinstance(found, Absent)
    assert why in found.why


def test_retrainings_that_do_not_differ_leave_no_interval() -> None:
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=30), rng.normal(size=30)
    found = retrained(cell(x, np.column_stack([y, y])), x, 99, rng)
    assert not isinstance(found, Absent)
    assert np.ptp(found) == pytest.approx(0)
    missing = np.column_stack([y, np.where(np.arange(30) == 4, np.nan, y)])
    assert isinstance(retrained(cell(x, missing), x, 99, rng), Absent)


# Decisions


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06])
    assert benjamini_hochberg(p) == pytest.approx([0.03, 0.04, 0.04])
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])


def test_three_answers_and_what_cannot_be_tested() -> None:
    none = Absent(why="too few masks")
    found = decide(
        [
            PValues(target=0.0001, unit=0.001, naive=0.0, equivalence=0.9),
            PValues(target=none, unit=none, naive=0.5, equivalence=0.001),
            PValues(target=0.5, unit=0.001, naive=0.5, equivalence=none),
            PValues(target=0.001, unit=none, naive=0.0, equivalence=0.01),
        ],
        0.1,
        0.05,
    )
    assert [one.answer for one in found] == [Answer.RELATION, Answer.NONE, Answer.UNKNOWN, Answer.NONE]
    assert found[2].equivalence_p_holm is none
    assert found[0].zero_p_holm == pytest.approx(0.004)
    assert found[1].equivalence_p_holm == pytest.approx(0.003)


def test_p_of_equivalence_by_hand() -> None:
    # The nearer margin lies 1.5 deviations off.
    assert p_within(-0.04, 0.04, 0.1) == pytest.approx(stats.norm.sf(1.5))
    assert (p_within(0.04, 0.0, 0.1), p_within(0.2, 0.0, 0.1)) == (0, 1)


@pytest.mark.parametrize(
    ("answer", "agreement", "drowned", "verdict"),
    [
        (Answer.RELATION, 0.5, False, Verdict.PREDICTS),
        (Answer.RELATION, 0.49, True, Verdict.WEAKLY),
        (Answer.RELATION, -0.9, False, Verdict.OPPOSITE),
        (Answer.NONE, 0.01, False, Verdict.NOTHING),
        (Answer.NONE, 0.01, True, Verdict.NOISE),
        (Answer.UNKNOWN, 0.4, False, Verdict.CANNOT_TELL),
        (Answer.UNKNOWN, 0.0, True, Verdict.NOISE),
    ],
)
def test_verdicts_follow_the_rules(answer: Answer, agreement: float, drowned: bool, verdict: Verdict) -> None:
    assert judge(answer, agreement, drowned) is verdict


def test_what_is_known_of_nothing_is_never_evidence_of_absence() -> None:
    """45 masks without a relation cannot support equivalence; 2,000 can."""
    rng = np.random.default_rng(14)
    assert analyse(cell(rng.normal(size=45), rng.normal(size=45))).verdict is Verdict.CANNOT_TELL
    assert analyse(cell(rng.normal(size=2_000), rng.normal(size=2_000))).verdict is Verdict.NOTHING


# Choosing a mask


def test_the_best_k_by_hand() -> None:
    promise, goodness = -np.array([3.0, 1, 2, 4, 5]), np.array([9.0, 7, 8, 6, 9])
    found = at_k(promise, goodness, 2)  # masks 1 and 2, which rank 4 and 3 of 5
    assert (found.precision, found.best_rank, found.chance_precision) == (0, 3, 0.4)
    assert found.anomaly_ratio == pytest.approx((3 + 2) / 2 / 5)
    assert (found.anomaly_ratio_low, found.anomaly_ratio_high) == (0.4, 0.6)
    assert at_k(promise, goodness, 3).precision == pytest.approx(2 / 3)
    assert percentile(goodness, 0) == pytest.approx((3 + 0.5) / 4)


def test_regret_by_hand_holds_out_each_repeat() -> None:
    y_nR = np.array([[0.5, 0.7], [0.9, 0.3], [0.5, 0.6]])
    found = choice(cell(np.array([1.0, 2, 3]), y_nR), X, 99, 0)
    # By the second repeat mask 0 is best, and the first gives it 0.5; by the first mask 1 is, and the second gives 0.3.
    assert found.regret == pytest.approx((0.5 + 0.3) / 2 - 0.6)
    assert found.regret_basis is RegretBasis.REPEATS
    assert isinstance(found.regret_interval, Absent)
    deviation = np.sqrt((2 * 0.1**2 + 2 * 0.3**2 + 2 * 0.05**2) / 3)
    assert found.regret_in_noise == pytest.approx(found.regret / deviation)
    assert found.observed_regret == pytest.approx(0)


def test_the_winner_s_curse_is_not_counted_as_regret() -> None:
    """200 masks that are all alike: the observed regret is large, the one measured by held-out repeats is none."""
    rng = np.random.default_rng(15)
    observed, held_out = [], []
    for _ in range(200):
        found = choice(cell(rng.normal(size=200), rng.normal(size=(200, 3))), X, 99, 0)
        observed.append(found.observed_regret)
        held_out.append(found.regret)
    assert np.mean(observed) > 1
    assert abs(np.mean(held_out)) < 0.15


def test_tau_within_the_tenth_that_looks_best() -> None:
    x = np.arange(100.0)
    y = np.where(x < 10, x, 200 - x)  # within the tenth the order is the wrong one
    found = choice(cell(x, y), X, 99, 0)
    assert (found.tenth_n, found.tenth_tau) == (10, pytest.approx(1))
    assert isinstance(choice(cell(x[:20], y[:20]), X, 99, 0).tenth_tau, Absent)


# Regime


def test_collapsed_panels_are_flagged_and_half_collapsed_ones_too() -> None:
    y = np.random.default_rng(16).normal(size=20)
    table = pd.DataFrame({X: np.linspace(2.31, 5, 20), Y: y})
    (found,) = analyze_table(table, classes=10, options=FEW)
    assert found.regime.collapsed_share == 1
    assert found.regime.chance_loss == pytest.approx(2.302585)
    assert Caveat.COLLAPSED in found.caveats
    (mostly,) = analyze_table(table.assign(**{X: np.linspace(2, 5, 20)}), classes=10, options=FEW)
    assert Caveat.MOSTLY_COLLAPSED in mostly.caveats
    (unknown,) = analyze_table(table, options=FEW)
    assert isinstance(unknown.regime.collapsed_share, Absent)
    (column,) = analyze_table(table.assign(classes=1000), options=FEW)
    assert column.regime.collapsed_share == 0


# Whole cells


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "at least 3 masks, but in group `g` there are 2"),
        ([1, 2, np.nan], [1, 2, 3], "column `pruned_train_loss` holds 1 missing or infinite values in group `g`"),
        ([1, 2, 3], [1, np.inf, 3], "column `final_test_accuracy` holds 1 missing or infinite values in group `g`"),
        ([1, 2, 3], [7, 7, 7], r"column `final_test_accuracy` is constant \(7\) in group `g`"),
    ],
)
def test_what_cannot_bear_statistics_is_said(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(TableError, match=message):
        cell(np.array(x, float), np.array(y, float), group="g")


def test_three_masks_have_a_tau_and_say_what_else_they_cannot_have() -> None:
    found = analyse(cell(np.array([1.0, 2, 3]), np.array([3.0, 1, 2])))
    assert found.kendall_tau == pytest.approx(-1 / 3)
    assert found.association.kendall_interval == Absent(why="3 masks cannot bear a bootstrap: it takes 10")
    assert isinstance(found.null, Absent)
    assert isinstance(found.ceiling, Absent)
    assert found.verdict is Verdict.CANNOT_TELL
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_missing_column_names_the_nearest() -> None:
    table = pd.DataFrame({"pruned_train_los": [1.0], "final_test_accuracy": [1.0]})
    with pytest.raises(TableError, match="unknown column `pruned_train_loss`: did you mean `pruned_train_los`"):
        analyze_table(table)


def test_an_exported_trial_table_gives_the_figures_that_the_store_gives(finished: Study) -> None:
    of_store, of_table = finished.analyze(options=FEW), analyze_table(finished.trials(), options=FEW)
    for a, b in zip(of_store, of_table, strict=True):
        assert (a.kendall_tau, a.ceiling, a.choice.at) == (b.kendall_tau, b.ceiling, b.choice.at)
    assert [one.x for one in of_store[0].predictors] != [one.x for one in of_table[0].predictors]
    assert of_store[0].regime.free_unit_effects == 9


def test_the_flat_table_and_the_latex_table() -> None:
    rng = np.random.default_rng(17)
    cells = [cell(np.arange(12.0), rng.normal(size=12), group=name) for name in ("conv1-0.2", "conv1-0.5", "conv2-0.2")]
    found = analyze_cells(cells, [X], FEW)
    table = as_table(found)
    assert list(table["association_kendall_interval_low"]) == [one.association.kendall_interval.low for one in found]  # type: ignore[union-attr]
    assert "null" not in table
    latex = as_latex(found)
    assert r"Layers & $0.2$ & $0.5$ \\" in latex
    assert f"conv1 & ${found[0].kendall_tau:.2f}$ / ${found[0].kendall_p:.3f}$$^{{\\dagger}}$ & " in latex
    unnamed = analyze_cells([cell(np.arange(12.0), rng.normal(size=12), group="a_b")], [X], FEW)
    assert r"a\_b & $" in as_latex(unnamed)
