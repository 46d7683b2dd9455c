"""What holds on other images: simulated networks whose right and wrong answers come from units, images and retraining."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from simulated import X, Y
from trueoracle.analysis import Absent, CellMasks, Options, Target, Verdict
from trueoracle.analysis.analyze import analyze_cells
from trueoracle.analysis.crossfit import worth_of_pick
from trueoracle.analysis.masks import Answers
from trueoracle.analysis.other_images import Jackknife, answers_of, other_images
from trueoracle.analysis.rank import kendall_tau
from trueoracle.analysis.result import CellAnalysis, Interval, RegretBasis
from trueoracle.analysis.spread import mean_of_repeats, retraining_variance, spread

IMAGES = 6_000
FEW = Options(resamples=199)


def simulated(relation: float, seed: int, images: int = IMAGES, repeats: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """X of all 70 masks of C(8, 4), and right or wrong: units matter to all images by `relation`, to each by its own amount."""
    rng = np.random.default_rng(seed)
    kept = np.array([[unit in four for unit in range(8)] for four in combinations(range(8), 4)]) - 0.5
    everywhere = relation * rng.normal(size=8)
    margin = 1.5 + 1.2 * rng.normal(size=images) + kept @ (0.2 * rng.normal(size=(8, images)) + everywhere[:, None])
    right = np.stack([margin + 0.05 * rng.normal(size=margin.shape) > 0 for _ in range(repeats)], axis=1)
    return -(kept @ everywhere) + (relation or 1) * 0.5 * rng.normal(size=70), right


def cell_of(x: np.ndarray, right: np.ndarray, validation: np.ndarray | None = None) -> CellMasks:
    def known(answers: np.ndarray) -> Answers:
        return Answers(right_nRI=answers, known_nR=np.ones(answers.shape[:2], bool))

    return CellMasks(
        group="cell",
        x={X: x},
        y_name=Y,
        y_nR=right.mean(axis=2),
        mask=tuple(range(len(x))),
        space=len(x),
        test=known(right),
        validation=None if validation is None else known(validation),
    )


def analyse(cell: CellMasks, options: Options = FEW) -> CellAnalysis:
    (found,) = analyze_cells([cell], [X], options)
    return found


@pytest.mark.parametrize(("images", "relation"), [(360, 0.05), (1_000, 0.0)])
def test_intervals_from_few_images_cover_what_many_others_show(images: int, relation: float) -> None:
    """Test sets cut out of many images, against all the remaining ones; and surely better picks are seldom none."""
    x, right = simulated(relation, 1)
    tau, top, worth, false = [], [], [], []
    for draw in range(60):
        rng = np.random.default_rng((images, draw))
        order = rng.permutation(IMAGES)
        here, rest = right[:, :, order[:images]], right[:, :, order[images:]]
        cell, other = cell_of(x, here), IMAGES - images
        answers = answers_of(cell)
        assert isinstance(answers, Answers)
        found = other_images(cell, answers, {X: Absent(why="not asked")}, other, rng)
        y, best = rest.mean(axis=(1, 2)), here.sum(axis=(1, 2))
        of_tau, of_top = found.tau(0)[1], found.ceiling()[1]
        tau.append(of_tau.low <= kendall_tau(x, y) <= of_tau.high)
        top.append(of_top.low <= max(0.0, kendall_tau(best.astype(float), y)) <= of_top.high)
        oracle = int(np.argmin(x))
        gained = worth_of_pick(answers, None, np.array([oracle]), other, rng)
        truly = y[best == best.max()].mean() - y[oracle]
        worth.append(gained.interval.low <= truly <= gained.interval.high)
        false.append(gained.interval.low > 0 >= truly)
    assert np.mean(tau) >= 0.9
    assert np.mean(top) >= 0.87
    assert np.mean(worth) >= 0.9
    assert np.mean(false) <= 0.05


def test_masks_alike_in_truth_show_no_regret_and_no_tau() -> None:
    found = analyse(cell_of(*simulated(0.0, 2, images=360)))
    assert isinstance(found.choice.regret_interval, Interval)
    assert found.choice.regret_interval.low <= 0 <= found.choice.regret_interval.high
    assert found.choice.observed_regret > found.choice.regret
    assert found.choice.regret_basis is RegretBasis.HALVES
    assert not isinstance(found.on_others, Absent)
    assert found.on_others.interval.low <= 0 <= found.on_others.interval.high
    assert found.target is Target.IMAGES
    assert found.interval == found.on_others.interval


def test_a_validation_split_picks_and_the_test_split_measures() -> None:
    x, right = simulated(0.1, 3, images=2_000)
    validation, test = right[:, :, :1_000], right[:, :, 1_000:]
    found = analyse(cell_of(x, test, validation))
    assert found.choice.regret_basis is RegretBasis.VALIDATION
    # By hand: what one repeat has best on validation, the other measures on test.
    gains = []
    for r in range(2):
        score = validation[:, 1 - r].sum(axis=1)
        gains.append(test[score == score.max(), r].mean() - test[np.argmin(x), r].mean())
    assert found.choice.regret == pytest.approx(np.mean(gains))


def test_nothing_depends_on_the_order_of_the_masks() -> None:
    x, right = simulated(0.05, 4, images=200)
    x = np.round(x, 1)  # predictors tie, and so do results on so few images
    order = np.random.default_rng(0).permutation(len(x))
    one = cell_of(x, right)
    other = replace(
        cell_of(x[order], right[order]), mask=tuple(order.tolist()), x={X: x[order]}
    )  # the same masks by their ranks, in another order
    a, b = analyse(one), analyse(other)
    assert (a.choice.oracle_mask, a.choice.anomalies) == (b.choice.oracle_mask, b.choice.anomalies)
    for name in ("regret", "percentile", "anomaly_ratio", "observed_regret", "oracle_result"):
        assert getattr(a.choice, name) == pytest.approx(getattr(b.choice, name), abs=1e-12)
    assert isinstance(a.choice.regret_interval, Interval)
    assert isinstance(b.choice.regret_interval, Interval)
    assert a.choice.regret_interval.low == pytest.approx(b.choice.regret_interval.low)
    assert [vars_of(at) for at in a.choice.at] == [pytest.approx(vars_of(at)) for at in b.choice.at]
    assert not isinstance(a.on_others, Absent)
    assert not isinstance(b.on_others, Absent)
    assert a.on_others.interval.low == pytest.approx(b.on_others.interval.low)


def vars_of(at: object) -> list[float]:
    return [float(getattr(at, name)) for name in at.__slots__]  # type: ignore[attr-defined]


def test_all_masks_without_relation_can_be_shown_to_say_nothing() -> None:
    """No masks are drawn where all are here, so absence is a matter of images alone."""
    _, right = simulated(0.2, 5, images=20_000, repeats=1)
    y = right.mean(axis=(1, 2))
    rng = np.random.default_rng(0)
    xs = (rng.permutation(70).astype(float) for _ in range(10_000))
    x = next(x for x in xs if abs(stats.kendalltau(x, y).statistic) < 0.005)
    assert analyse(cell_of(x, right)).verdict is Verdict.NOTHING


def test_what_repeats_cannot_see_is_said_where_answers_are_unknown() -> None:
    x, right = simulated(0.05, 6, images=200)
    found = analyse(replace(cell_of(x, right), test=None))
    assert found.target is Target.SPACE
    assert isinstance(found.on_others, Absent)
    assert isinstance(found.choice.regret_interval, Absent)
    assert found.choice.regret_basis is RegretBasis.REPEATS
    assert "which images" in found.as_dict()["absent"]["choice.regret_interval"]


def test_components_of_spread_are_those_that_answers_were_made_with() -> None:
    """Answers drawn with given variances of masks, of retraining on all images, and of masks on single images."""
    rng = np.random.default_rng(7)
    masks, repeats, images = 400, 3, 2_000
    chance = (
        0.5
        + 0.05 * rng.normal(size=(masks, 1, 1))
        + 0.02 * rng.normal(size=(masks, repeats, 1))
        + 0.2 * rng.choice([-1.0, 1.0], size=(masks, 1, images))
    )
    right = rng.random((masks, repeats, images)) < chance
    found = spread(Answers(right_nRI=right, known_nR=np.ones((masks, repeats), bool)))
    assert found.masks == pytest.approx(0.05**2, rel=0.25)
    assert found.retraining == pytest.approx(0.02**2, rel=0.25)
    assert found.images * images == pytest.approx(0.2**2, rel=0.1)


def test_the_jackknife_is_what_leaving_out_each_group_by_hand_gives() -> None:
    x, right = simulated(0.1, 10, images=400)
    found = Jackknife.of([x], right, np.ones(right.shape[:2], bool), np.random.default_rng(3))
    groups = np.array_split(np.random.default_rng(3).permutation(400), 20)
    taus = [
        stats.kendalltau(x, np.delete(right, group, axis=2).mean(axis=(1, 2)).round(9)).statistic for group in groups
    ]
    assert found.tau_VK[1:, 0] == pytest.approx(taus)
    assert found.tau_VK[0, 0] == pytest.approx(stats.kendalltau(x, right.mean(axis=(1, 2)).round(9)).statistic)
    assert Jackknife.variance(found.tau_VK)[0] == pytest.approx(19 / 20 * ((taus - np.mean(taus)) ** 2).sum())


def test_a_repeat_that_is_missing_counts_for_nothing() -> None:
    _, right = simulated(0.05, 8, images=400)
    known = np.ones(right.shape[:2], bool)
    known[5, 1] = False
    right[5, 1] = True
    answers = Answers(right_nRI=right, known_nR=known)
    assert (mean_of_repeats(answers)[5] == right[5, 0]).all()
    flipped = right.copy()
    flipped[5, 1] = False
    assert retraining_variance(answers) == retraining_variance(replace(answers, right_nRI=flipped))
    one, other = (
        worth_of_pick(replace(answers, right_nRI=a), None, np.array([5]), 5_000, np.random.default_rng(0))
        for a in (right, flipped)
    )
    assert one == other


def test_paired_differences_of_predictors_are_narrower_than_the_predictors() -> None:
    x, right = simulated(0.1, 9, images=600)
    near = x + 0.01 * np.ptp(x) * np.random.default_rng(0).normal(size=len(x))
    cell = replace(cell_of(x, right), x={X: x, "near_loss": near, "random": np.random.default_rng(1).random(70)})
    by_name = {one.x: one for one in analyse(cell).predictors}
    difference, itself = by_name["near_loss"].over_first, by_name["near_loss"].interval
    assert isinstance(difference, Interval)
    assert isinstance(itself, Interval)
    assert difference.high - difference.low < 0.5 * (itself.high - itself.low)
    assert difference.low <= 0 <= difference.high
    over = by_name[X].over_random
    assert isinstance(over, Interval)
    assert over.low > 0
    assert isinstance(by_name[X].over_first, Absent)
