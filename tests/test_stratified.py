"""Draws stratified over the loss: the tail is in the sample, weights give the space back, other statistics leave it out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from served import ask, serving
from test_study_search import PRUNE, study
from trueoracle import Study, TrueOracleError
from trueoracle.analysis import Absent, Caveat
from trueoracle.analysis.cells import X
from trueoracle.analysis.masks import CellMasks, WeightedMasks
from trueoracle.analysis.stratified import stratified, weighted_tau
from trueoracle.report.figures import draw_scatter
from trueoracle.report.findings import find
from trueoracle.report.landscape_picture import landscape_pictures
from trueoracle.report.page import render
from trueoracle.report.scatter import scatter
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import Store
from trueoracle.store.browse import Order, TrialFilter, page_of_trials
from trueoracle.store.landscape import read_landscape
from trueoracle.study.strata import first_phase, strata, tail
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import parse_spec

SPACE = MaskSpace((SiteChoice(site="a", units=10, pruned=5), SiteChoice(site="b", units=10, pruned=4)))


def test_strata_halve_towards_the_low_losses() -> None:
    assert strata(100, 8) == [range(12), range(12, 25), range(25, 50), range(50, 100)]
    assert strata(100, 3) == [range(100)]
    for of, masks in [(1000, 20), (11, 9), (2, 1), (64, 64)]:
        layers = strata(of, masks)
        assert [place for layer in layers for place in layer] == list(range(of))
        assert len(layers[0]) >= masks // len(layers)


def test_the_first_phase_holds_the_drawn_masks_and_others() -> None:
    drawn = SPACE.draw(30, 1)
    pool = first_phase(SPACE, drawn, 100, 2)
    assert len(pool) == len(set(pool)) == 100
    assert set(drawn) < set(pool)
    assert first_phase(SPACE, drawn, SPACE.count, 2) == tuple(range(SPACE.count))


@pytest.mark.parametrize("drawn", [1, 10, 60])
def test_the_tail_is_in_the_sample_and_the_weights_are_those_of_all(drawn: int) -> None:
    losses = dict(enumerate(np.random.default_rng(0).permutation(100).astype(float).tolist()))
    first = list(range(drawn))
    chosen, weight = tail(losses, first, 40, seed=3)
    assert len(set(chosen)) == 40
    assert not set(chosen) & set(first)
    assert weight.keys() == {*chosen, *first}
    assert sum(weight.values()) == pytest.approx(100)
    lowest = sorted(losses, key=losses.__getitem__)[:3]
    assert set(lowest) <= weight.keys()


def test_a_loss_that_is_no_number_is_the_highest() -> None:
    losses = {rank: float(rank) for rank in range(50)} | {3: float("nan")}
    _, weight = tail(losses, [3, 40], 8, seed=0)
    assert weight[3] == weight[40]


def test_equal_weights_give_the_usual_tau() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 8, 30).astype(float), random.integers(0, 8, 30).astype(float)
    (tau,) = weighted_tau(x, y, np.full((1, 30), 2.5))
    assert tau == pytest.approx(stats.kendalltau(x, y).statistic)


def test_a_weight_counts_as_that_many_equal_masks() -> None:
    random = np.random.default_rng(1)
    x, y, times = random.random(12), random.random(12), random.integers(1, 5, 12)
    (tau,) = weighted_tau(x, y, times[None].astype(float))
    assert tau == pytest.approx(stats.kendalltau(np.repeat(x, times), np.repeat(y, times)).statistic)


def test_weights_give_back_what_a_sample_of_the_tail_distorts() -> None:
    """Below, the loss tells all, above nothing: the sample holds much of the tail, the space little."""
    random = np.random.default_rng(0)
    of_space, of_weighted, of_sample = [], [], []
    for seed in range(60):
        x = np.sort(random.random(400))
        y = np.where(x < 0.1, x - 1, random.random(400))
        of_space.append(stats.kendalltau(x, y).statistic)
        losses = dict(enumerate(x.tolist()))
        drawn = random.choice(400, 20, replace=False).tolist()
        _, weight = tail(losses, drawn, 40, seed)
        ranks = sorted(weight)
        of_weighted.append(weighted_tau(x[ranks], y[ranks], np.array([[weight[r] for r in ranks]]))[0])
        of_sample.append(stats.kendalltau(x[ranks], y[ranks]).statistic)
    error = np.std(of_weighted) / np.sqrt(60)
    assert abs(np.mean(of_weighted) - np.mean(of_space)) < 4 * error
    assert np.mean(of_sample) - np.mean(of_space) > 10 * error


def test_intervals_hold_the_tau_of_the_space() -> None:
    random = np.random.default_rng(2)
    held = []
    for seed in range(200):
        x = random.normal(size=3000)
        y = np.where(x < -1, x, 0) + random.normal(size=3000)
        truth = stats.kendalltau(x, y).statistic
        pool = random.choice(3000, 300, replace=False)
        drawn = list(range(20))
        _, weight = tail(dict(enumerate(x[pool].tolist())), drawn, 40, seed)
        places = sorted(weight)
        sample = WeightedMasks(x={X: x[pool][places]}, y=y[pool][places], weight=np.array([weight[p] for p in places]))
        cell = CellMasks(group="", x={X: x[:3]}, y_name="final_test_loss", y_nR=y[:3, None], weighted=sample)
        found = stratified(cell, X, seed)
        assert not isinstance(found, Absent)
        assert not isinstance(found.kendall_interval, Absent)
        held.append(found.kendall_interval.low <= truth <= found.kendall_interval.high)
    assert 0.90 <= np.mean(held) <= 0.99, np.mean(held)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Study:
    cell = {"prune": PRUNE, "draw": 6, "tail": {"masks": 8, "of": 60}, "search": {"evaluations": 40, "keep": 2}}
    made = study([cell], tmp_path_factory.mktemp("stratified"))
    made.run()
    return made


def test_a_study_draws_the_tail_and_marks_it(run: Study) -> None:
    trials = run.trials()
    assert len(trials) == 16
    assert run.status().left == 0
    chosen, weight = trials["searched"], trials["sampling_weight"]
    assert (chosen.sum(), weight.notna().sum(), (chosen & weight.isna()).sum()) == (10, 14, 2)
    assert weight.sum() == pytest.approx(60)
    assert set(trials[~chosen]["mask"]) == set(run.plan.cells[0].drawn or ())
    low = trials[weight.notna()].nsmallest(2, "pruned_train_loss")
    assert (low["sampling_weight"] == weight.min()).all()


def test_the_same_study_draws_the_same(run: Study, tmp_path: Path) -> None:
    before = run.trials()
    run.run()
    pd.testing.assert_frame_equal(before, run.trials())
    again = study([cell.model_dump(exclude_none=True) for cell in run.spec.cells], tmp_path)
    again.run()
    columns = ["mask", "searched", "sampling_weight", "pruned_train_loss"]
    pd.testing.assert_frame_equal(again.trials()[columns], before[columns])
    store, digest = Store(again.store_url), again.plan.digest
    assert len(store.tail(digest, 0)) == 8
    assert len(store.searched(digest, 0)) == 2


def test_statistics_leave_the_tail_out_or_weigh_it(run: Study) -> None:
    (found,) = run.analyze()
    assert found.n == 6
    assert Caveat.SEARCHED in found.caveats
    assert {"searched", "sampling_weight"}.isdisjoint(one.x for one in found.predictors)
    assert not isinstance(found.stratified, Absent)
    trials = run.trials()
    weighed = trials[trials["sampling_weight"].notna()]
    (tau,) = weighted_tau(
        weighed["pruned_train_loss"].to_numpy(),
        weighed["final_test_accuracy"].to_numpy(),
        weighed["sampling_weight"].to_numpy()[None],
    )
    assert found.stratified.kendall_tau == pytest.approx(tau)
    assert (found.stratified.n, found.stratified.stands_for) == (14, 60)


def test_a_study_without_a_tail_keeps_its_identity_and_has_no_weights() -> None:
    facts = Study("quickstart").spec.facts()
    assert "tail" not in parse_spec(facts, "x").canonical()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"tail": {"masks": 4, "of": 20}}, "`tail` adds to the masks that `draw` takes: say how many"),
        ({"draw": 8, "tail": {"masks": 4, "of": 11}}, "`tail.of` must be at least 12, the masks drawn and those of `tail`, but got 11"),
        ({"draw": 8, "tail": {"masks": 4, "of": 63505}}, "`tail.of` must be at most 63504, the masks of the space, but got 63505"),
        ({"draw": 8, "masks": [1], "tail": {"masks": 4, "of": 20}}, "`masks` and `tail` are two ways to choose masks: give one"),
        ({"draw": 8, "tail": {"masks": 4, "of": 20, "off": 2}}, "unknown key `off`: did you mean `of`?"),
        ({"draw": 8, "tail": {"masks": 0, "of": 20}}, "greater than or equal to 1, but got 0"),
    ],
)  # fmt: skip
def test_a_tail_that_cannot_be_is_one_clear_line(cell: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(TrueOracleError) as caught:
        study([{"prune": PRUNE, **cell}], tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_chosen_masks_are_marked_in_pictures_and_tables(run: Study, tmp_path: Path) -> None:
    found = find(Store(run.store_url), run.spec.name, Quiet())
    (cell,) = found.cells
    chosen = run.trials()[run.trials()["searched"]].set_index("mask").sort_index()
    assert cell.searched.x.tolist() == chosen["pruned_train_loss"].tolist()
    assert cell.searched.y.tolist() == chosen["final_test_accuracy"].tolist()
    drawn = scatter(found, cell)
    assert all(drawn.x.holds(x) for x in cell.searched.x)
    marks = drawn.svg.partition('class="searched"')[2].partition("</g>")[0]
    assert marks.count("M") == 10
    assert "10 masks more that were chosen by their loss" in drawn.svg
    page = render(found, Quiet())
    assert "chosen by their loss, in no figure (10)" in page
    assert "τ with the tail, weighted" in page
    draw_scatter(found, cell).savefig(tmp_path / "scatter.svg")
    assert "chosen by their loss (10)" in (tmp_path / "scatter.svg").read_text()


def test_lists_and_files_of_the_server_mark_chosen_masks(run: Study) -> None:
    store, chosen = Store(run.store_url), run.trials()[run.trials()["searched"]]
    rows = page_of_trials(store, run.plan.digest, TrialFilter(), Order(), start=0, rows=100)
    assert {row.mask for row in rows if row.searched} == set(chosen["mask"])
    address = f"/studies/{run.plan.digest[:12]}"
    with serving(run.store_url) as url:
        assert ask(url, f"{address}/trials")[2].count(">chosen</abbr>") == 10
        lines = ask(url, f"{address}/trials.csv")[2].splitlines()
        assert [line.rpartition(",")[2] for line in lines].count("true") == 10
        assert "chosen by its loss" in ask(url, f"{address}/cells/0/masks/{chosen['mask'].iloc[0]}")[2]


def test_a_landscape_that_a_search_found_says_so(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"mask": [0, 1], "pruned": ["{}", "{}"], "pruned_train_loss": [1.0, 2.0], "pruned_train_accuracy": [0.5, 0.4]}
    )
    for name, frame in (("whole", table), ("found", table.assign(searched=True))):
        frame.to_parquet(tmp_path / f"{name}.parquet")
        found = read_landscape(tmp_path / f"{name}.parquet")
        pictures = landscape_pictures(name, found)
        assert found.searched == (name == "found")
        assert all(("of masks that a search chose" in picture) == found.searched for picture in pictures)
