"""The statistics against simulations of known truth: these tests fail where a p-value, an interval or a ceiling is off."""

import numpy as np
import pytest
from scipy import stats

from simulated import X, all_kept, cell, drawn_kept
from trueoracle.analysis import Absent, Assumptions, Claim
from trueoracle.analysis.ceiling import ceiling
from trueoracle.analysis.null import Draws, unit_null
from trueoracle.analysis.planning import critical_tau, needs, power, tau_deviation
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.resample import Resamples, interval, p_within, resample, retrained
from trueoracle.analysis.result import Ceiling, Interval, NullKind, UnitNull
from trueoracle.analysis.units import Units

DRAWS = 1_000


def test_without_a_relation_the_unit_null_is_uniform_and_the_naive_p_is_not() -> None:
    """Loss and accuracy are sums of independent unit effects over all 252 masks of C(10, 5)."""
    rng = np.random.default_rng(11)
    kept = all_kept(10, 5)
    units = Units(sizes={"conv": 10}, kept_nU=kept)
    unit_p, naive_p = np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):
        x, y = kept @ rng.normal(size=10), kept @ rng.normal(size=10)
        found = unit_null(cell(x, y), X, units, Draws(first=199, most=199), rng)
        assert isinstance(found, UnitNull)
        assert found.kind is NullKind.RANDOM
        unit_p[draw], naive_p[draw] = found.p, stats.kendalltau(x, y).pvalue
    assert 0.03 <= (unit_p <= 0.05).mean() <= 0.07
    assert stats.kstest(unit_p, "uniform").pvalue > 0.01
    assert (naive_p < 0.05).mean() > 0.5


def test_for_drawn_masks_the_model_of_main_effects_keeps_its_level() -> None:
    rng = np.random.default_rng(12)
    rejected, naive = [], []
    for _ in range(DRAWS):
        kept = drawn_kept(16, 120, rng)
        units = Units(sizes={"conv": 16}, kept_nU=kept)
        x = kept @ rng.normal(size=16) + rng.normal(size=len(kept))
        y = kept @ rng.normal(size=16) + rng.normal(size=len(kept))
        found = unit_null(cell(x, y), X, units, Draws(first=99, most=99), rng)
        assert isinstance(found, UnitNull)
        assert found.kind is NullKind.MAIN_EFFECTS
        rejected.append(found.p <= 0.05)
        naive.append(stats.kendalltau(x, y).pvalue <= 0.05)
    assert 0.03 <= np.mean(rejected) <= 0.07
    assert np.mean(naive) > 0.2


def test_a_supplied_loss_function_gives_the_same_null_as_an_exhaustive_space() -> None:
    """Of drawn masks, with the true losses of relabelled masks: uniform again."""
    rng = np.random.default_rng(13)
    rejected = []
    for _ in range(400):
        kept, effects = drawn_kept(16, 60, rng), rng.normal(size=16)
        units = Units(sizes={"conv": 16}, kept_nU=kept)
        x, y = kept @ effects, kept @ rng.normal(size=16)
        found = unit_null(cell(x, y), X, units, Draws(first=99, most=99), rng, lambda _, masks, e=effects: masks @ e)  # type: ignore[misc]
        assert isinstance(found, UnitNull)
        assert found.kind is NullKind.LOSS_FUNCTION
        rejected.append(found.p <= 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.08


@pytest.mark.parametrize("masks", [45, 120])
def test_bootstrap_intervals_cover_the_tau_of_the_space_that_masks_are_drawn_from(masks: int) -> None:
    """Masks of a space of C(20, 10), overlapping, additive in part, three noisy repeats each."""
    rng = np.random.default_rng(14)
    a, b = rng.normal(size=20), rng.normal(size=20)

    def study(number: int) -> tuple[np.ndarray, np.ndarray]:
        kept = np.argsort(rng.random((number, 20)), axis=1) < 10
        return kept @ a, (kept @ (0.6 * a + b))[:, None] + 2 * rng.normal(size=(number, 3))

    truth = np.mean([kendall_tau(x, y_nR.mean(axis=1)) for x, y_nR in (study(40_000) for _ in range(5))])
    covered, within = [], []
    for _ in range(DRAWS):
        x, y_nR = study(masks)
        drawn = resample(x, y_nR.mean(axis=1), 999, rng)
        assert isinstance(drawn, Resamples)
        found = interval(drawn.tau)
        assert isinstance(found, Interval)
        covered.append(found.low <= truth <= found.high)
        # The edge of equivalence: where tau is the margin itself, equivalence is claimed in one draw of twenty.
        within.append(p_within(kendall_tau(x, y_nR.mean(axis=1)), float(drawn.tau.std()), truth) < 0.05)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.mean(within) <= 0.07


def test_retraining_intervals_cover_what_other_retrainings_of_the_same_masks_give() -> None:
    rng = np.random.default_rng(15)
    kept = all_kept(9, 4)
    x, expected = kept @ rng.normal(size=9), kept @ rng.normal(size=9)

    def again() -> np.ndarray:
        return expected[:, None] + 1.5 * rng.normal(size=(len(kept), 3))

    truth = np.mean([kendall_tau(x, again().mean(axis=1)) for _ in range(4_000)])
    covered = []
    for _ in range(DRAWS):
        found = interval(retrained(cell(x, again()), x, 399, rng))
        assert isinstance(found, Interval)
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


SHAPES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "a few terrible masks": lambda rng, n: -np.exp(rng.normal(size=n)),
    "two kinds of masks": lambda rng, n: np.where(rng.random(n) < 0.5, -2.0, 2.0) + 0.5 * rng.normal(size=n),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("noise", "repeats", "step"), [(0.3, 2, 0.0), (1.0, 3, 0.0), (1.0, 2, 0.5)])
def test_the_ceiling_is_the_tau_of_a_predictor_that_knows_the_truth(
    shape: str, noise: float, repeats: int, step: float
) -> None:
    """With `step` the results are those of a small test set: whole steps, and so ties."""
    rng = np.random.default_rng(16)
    truths, estimates = [], []
    for study in range(24):
        expected = SHAPES[shape](rng, 252)

        def retrained(expected: np.ndarray = expected) -> np.ndarray:
            y_nR = expected[:, None] + noise * rng.normal(size=(len(expected), repeats))
            return np.round(y_nR / step) * step if step else y_nR

        truths += [kendall_tau(expected, np.round(retrained().mean(axis=1), 6)) for _ in range(5)]
        found = ceiling(cell(-expected, retrained()), study)
        assert isinstance(found, Ceiling)
        estimates.append(found.tau)
    assert np.mean(estimates) == pytest.approx(np.mean(truths), abs=0.03)


@pytest.mark.parametrize("claim", Claim)
def test_planned_power_is_the_share_of_simulated_studies_that_show_the_claim(claim: Claim) -> None:
    tau, reliability, repeats = (0.25, 0.5, 2) if claim is Claim.RELATION else (0.0, 0.5, 2)
    given = Assumptions(tau=tau, reliability=reliability)
    (need,) = needs(claim, given, [repeats], Absent(why="not asked"))
    assert isinstance(need.masks, int)
    assert power(claim, given, need.masks, repeats) == pytest.approx(0.8, abs=0.01)
    rng = np.random.default_rng(18)
    r = np.sin(np.pi / 2 * tau)
    shown = []
    for _ in range(DRAWS):
        expected = rng.normal(size=need.masks)
        x = r * expected + np.sqrt(1 - r**2) * rng.normal(size=need.masks)
        y = (expected[:, None] + rng.normal(size=(need.masks, repeats))).mean(axis=1)
        if claim is Claim.RELATION:
            shown.append(stats.kendalltau(x, y).pvalue < 0.05)
        else:
            drawn = resample(x, y, 499, rng)
            assert isinstance(drawn, Resamples)
            shown.append(p_within(kendall_tau(x, y), float(drawn.tau.std()), 0.1) < 0.05)
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_planning_knows_how_far_chance_aligns_unit_effects() -> None:
    """The |tau| that the null of all masks of C(10, 5) reaches in one draw of twenty, against the planned critical value."""
    rng = np.random.default_rng(19)
    kept = all_kept(10, 5)
    taus = [abs(kendall_tau(kept @ rng.normal(size=10), kept @ rng.normal(size=10))) for _ in range(4_000)]
    planned = critical_tau(Assumptions(tau=0.2, reliability=1.0, effects=9), 10_000_000)
    assert np.quantile(taus, 0.95) == pytest.approx(0.43, abs=0.02)
    assert planned == pytest.approx(np.quantile(taus, 0.95), abs=0.03)


def test_the_deviation_of_tau_in_samples_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(20)
    taus = []
    for _ in range(4_000):
        x = rng.normal(size=60)
        taus.append(kendall_tau(x, 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=60)))
    assert np.std(taus) == pytest.approx(tau_deviation(2 / np.pi * np.arcsin(0.7), 60), rel=0.05)
