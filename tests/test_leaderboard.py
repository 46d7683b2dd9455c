"""The leaderboard of predictors: against the cells' own analyses, against hand calculation, and where the truth is known."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from made_up import graded_study
from trueoracle import Study
from trueoracle import leaderboard as ranked
from trueoracle.analysis import Absent, Interval, Leaderboard, analyze_study, compare
from trueoracle.analysis.blocks import blocks_of
from trueoracle.analysis.cells import Y
from trueoracle.analysis.leaderboard import different, leaderboard
from trueoracle.cli.app import main
from trueoracle.report import write_ranking, write_report
from trueoracle.store import Store
from trueoracle.words.errors import ReportError, TableError
from trueoracle.words.progress import Quiet

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCORES: dict[str, Callable[[np.random.Generator, float], float]] = {
    "knows": lambda _, worth: -worth,
    "guesses": lambda rng, worth: -worth + 0.5 * rng.normal(),
    "random": lambda rng, _: rng.random(),
    "reversed_l1": lambda _, worth: worth,
    "same_for_all": lambda _, __: 1.0,
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three base networks with a validation split; the same three under another name; and one network of another kind, without a split."""
    made = f"sqlite:///{tmp_path_factory.mktemp('board') / 's.db'}"
    store = Store(made, create=True)
    graded_study(store, scores=SCORES)
    graded_study(store, name="again", lr=0.2, scores={"knows": SCORES["knows"], "random": SCORES["random"]})
    graded_study(store, name="single", networks=1, seed=1, scores=SCORES, validation=False)
    return made


@pytest.fixture(scope="module")
def board(url: str) -> Leaderboard:
    return compare(Store(url), ["graded"])


def test_who_knows_is_first_and_who_is_wrong_is_last(board: Leaderboard) -> None:
    names = [row.x for row in board.rows]
    assert (names[0], names[-1]) == ("knows", "reversed_l1")
    assert board.rows[0].agreement.mean == pytest.approx(-board.rows[-1].agreement.mean)
    assert board.rows[0].regret.mean < 0.02 < board.rows[-1].regret.mean
    assert [row.place for row in board.rows] == [1, 2, 3, 4, 5]


def test_a_row_is_the_mean_of_what_the_cells_say(url: str, board: Leaderboard) -> None:
    analyses = [a for a in analyze_study(Store(url), "graded") if a.group.startswith("conv1")]
    assert [a.group for a in analyses] == [block.case for block in board.blocks]
    names = [row.x for row in board.rows]
    found = [{p.x: p for p in a.predictors} for a in analyses]
    ranks = stats.rankdata([[-cell[x].agreement for x in names] for cell in found], axis=1)
    for row, rank_N in zip(board.rows, ranks.T, strict=True):
        agreements = [cell[row.x].agreement for cell in found]
        half = stats.t.ppf(0.975, 2) * np.std(rank_N, ddof=1) / np.sqrt(3)
        assert isinstance(row.mean_rank.interval, Interval)
        assert row.mean_rank.mean == pytest.approx(np.mean(rank_N))
        assert row.mean_rank.interval.high == pytest.approx(min(5, np.mean(rank_N) + half))
        assert row.agreement.mean == pytest.approx(np.mean(agreements))
        assert row.regret.mean == pytest.approx(np.mean([cell[row.x].regret for cell in found]))
        ceilings = [a.on_others.ceiling for a in analyses if not isinstance(a.on_others, Absent)]
        assert not isinstance(row.relative, Absent)
        assert row.relative.mean == pytest.approx(np.mean(np.array(agreements) / ceilings))


def test_a_cell_that_tells_nothing_is_named_and_not_counted(board: Leaderboard) -> None:
    ((why, cells),) = board.left_out_by_reason
    assert cells == ["conv2-0.5"]
    assert "cannot be told to come back on others" in why
    assert {block.cell for block in board.blocks} == {"conv1-0.5"}


def test_a_predictor_that_says_the_same_of_all_masks_is_not_ranked(board: Leaderboard) -> None:
    assert board.unranked == {"same_for_all": "it says the same of all masks in all cells"}


def test_base_networks_that_studies_share_count_once(url: str) -> None:
    store = Store(url)
    assert compare(store, ["graded", "again"]).networks == 3
    assert compare(store, ["graded", "graded"]).networks == 3
    both = compare(store, ["graded", "single"])
    assert both.networks == 4
    assert len(both.blocks) == 4


def test_of_two_recipes_the_rank_is_over_both_and_told_of_each(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    store = Store(url)
    xs = ["knows", "random", "pruned_train_loss"]
    both = compare(store, ["graded", "again"], xs)
    alone = {study: {row.x: row for row in compare(store, [study], xs).rows} for study in ("graded", "again")}
    for row in both.rows:
        assert row.by_study == {study: rows[row.x].mean_rank for study, rows in alone.items()}
        # Both have the same networks and as many cells, so the mean over all is that of the two.
        assert row.mean_rank.mean == pytest.approx(np.mean([over.mean for over in row.by_study.values()]))
    assert all(row.by_study == {} for row in alone["graded"].values())
    assert compare(store, ["graded"], xs).alike == {}
    table = both.table().set_index("predictor")
    assert table.loc["knows", "mean_rank in again"] == alone["again"]["knows"].mean_rank.mean
    ranks = [[rows[x].mean_rank.mean for x in xs] for rows in alone.values()]
    assert both.alike == {("graded", "again"): pytest.approx(stats.kendalltau(*ranks).statistic)}
    monkeypatch.setenv("COLUMNS", "160")
    _call(monkeypatch, "criteria", "graded", "again", "--x", "knows", "--x", "random", "--store", url)
    said = capsys.readouterr().out
    assert "95% over studies" in said
    assert "in again" in said
    assert "the orders of graded and again: Kendall's tau 1.00" in said


def test_the_rank_has_an_interval_over_cells_and_over_studies(url: str) -> None:
    found = blocks_of(Store(url), ["graded", "again"], ["knows", "random", "pruned_train_loss"], Y, 5, Quiet())
    last = found.found[-1]  # one network of the second study, on which the two change places
    changed = {**last.scores, "knows": last.scores["random"], "random": last.scores["knows"]}
    found = replace(found, found=(*found.found[:-1], replace(last, scores=changed)))
    board = leaderboard(found, Y)
    for row in board.rows:
        means = [over.mean for over in row.by_study.values()]
        half = 12.706204736 * abs(means[0] - means[1]) / 2  # Student's 97.5% quantile of one degree of freedom
        ends = row.rank_over["studies"]
        assert isinstance(ends, Interval)
        assert (ends.low, ends.high) == pytest.approx(np.clip([np.mean(means) - half, np.mean(means) + half], 1, 3))
        assert row.rank_over["cells"] == Absent(why="an interval over cells needs at least two that are analysed")
    assert {row.x for row in board.rows if len({of.mean for of in row.by_study.values()}) == 2} >= {"knows", "random"}
    # The same blocks, were their cells other ones in the second study.
    apart = replace(found, found=tuple(replace(block, cell=f"{block.cell} {block.study}") for block in found.found))
    assert all(row.rank_over["cells"] == row.rank_over["studies"] for row in leaderboard(apart, Y).rows)


def test_what_one_study_did_not_measure_is_not_ranked(url: str) -> None:
    found = compare(Store(url), ["graded", "again"])
    assert {row.x for row in found.rows} == {"pruned_train_loss", "knows", "random"}
    assert found.unranked["guesses"] == "it is not measured in 3 of 6 cells, such as conv1-0.5, base 0 of again"


def test_one_base_network_tells_nothing_of_others(url: str) -> None:
    found = ranked(["single"], store=url)
    assert all(isinstance(row.mean_rank.interval, Absent) for row in found.rows)
    assert found.apart == frozenset()
    assert found.groups == ((0, 4),)
    assert found.winner is None
    assert "There is one base network" in found.remarks[0]


def test_without_a_validation_split_it_is_said(url: str) -> None:
    assert any("no validation split" in remark for remark in ranked(["single"], store=url).remarks)
    assert [basis.name for basis in ranked(["single"], store=url).bases] == ["HALVES"]
    assert [basis.name for basis in ranked(["graded"], store=url).bases] == ["VALIDATION"]


def test_diverged_trials_and_searched_masks_are_left_out_and_counted(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 's.db'}", create=True)
    graded_study(store, scores=SCORES, diverged=3, searched=2)
    found = compare(store, ["graded"])
    assert [block.masks for block in found.blocks] == [17, 17, 17]  # one mask diverged in both repeats
    assert found.remarks[:2] == [
        "9 trials diverged or failed and are left out",
        "6 masks that a search found or a criterion gave are left out: they are no random sample",
    ]


def test_cells_that_are_not_finished_are_named(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 's.db'}", create=True)
    study = graded_study(store, scores=SCORES)
    _forget_trials(store, study.digest, cell=2)
    found = compare(store, ["graded"])
    assert ("not all of its trials are run yet", ["conv1-0.5, base 1"]) in found.left_out_by_reason
    assert found.networks == 2


def _forget_trials(store: Store, digest: str, cell: int) -> None:
    import sqlite3

    with sqlite3.connect(store.url.removeprefix("sqlite:///")) as file:
        file.execute("DELETE FROM trials WHERE study = ? AND cell = ? AND repeat = 1 AND rank > '15'", (digest, cell))


def test_differences_by_hand() -> None:
    value_NK = np.array([[0.50, 0.49, 0.10], [0.52, 0.54, 0.12], [0.48, 0.47, 0.09], [0.51, 0.50, 0.12]])
    p = [stats.ttest_rel(value_NK[:, i], value_NK[:, j]).pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
    assert p[0] > 0.05
    assert 3 * max(p[1:]) < 0.05
    assert different(value_NK) == {(0, 2), (1, 2)}
    assert different(value_NK[:1]) == frozenset()
    assert different(value_NK[:, [0, 0]]) == frozenset()


@pytest.mark.parametrize("kind", ["same", "twins"])
def test_where_all_criteria_are_alike_none_wins_more_often_than_stated(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the intervals of the mean rank cover it, though the cells of a network are not independent."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import leaderboard

    found = leaderboard.errors(kind, draws=200, networks=4, criteria=4, truth=500)
    assert found.differ <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert found.winner <= found.differ
    assert 0.91 <= found.rank <= 0.98
    assert 0.91 <= found.agreement <= 0.98


def test_the_command_prints_and_writes(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "160")
    for ending in ("csv", "parquet", "json"):
        _call(monkeypatch, "criteria", "graded", "--store", url, "-o", str(tmp_path / f"b.{ending}"))
    said = capsys.readouterr().out
    assert "conv2-0.5" in said
    assert "not ranked: same_for_all, as it says the same of all masks in all cells" in said
    whole = json.loads((tmp_path / "b.json").read_text())
    assert whole["predictors"][0]["predictor"] == "knows"
    assert whole["left_out"][0]["cell"] == "conv2-0.5"
    csv, parquet = pd.read_csv(tmp_path / "b.csv"), pd.read_parquet(tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(csv, parquet)
    assert csv["agreement_low"].notna().all()


def _call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["trueoracle", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code in (0, None)


def test_the_command_measures_first(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "160")
    url = f"sqlite:///{tmp_path / 's.db'}"
    little = {
        "train.epochs": 3,
        "retrain.epochs": 1,
        "retrain.lr": 0.02,
        "repeats": 2,
        "cells": [{"prune": {"conv3": 0.8}, "draw": 12}],
    }
    Study("quickstart", set=little, store=url, threads=2, progress=Quiet()).run()
    _call(monkeypatch, "criteria", "quickstart", "--measure", "--criteria", "naswot", "--criteria", "recalibrated_sampled_loss",
          "--images", "32", "--x", "naswot@32", "--x", "l1", "--store", url)  # fmt: skip
    said = capsys.readouterr().out
    assert "recalibrated_sampled_loss is not measured, as the network has no BatchNorm" in said
    assert "naswot@32" in said
    found = Study.stored("quickstart", store=url).criteria()
    assert next(row for row in found.rows if row.x == "naswot@32").seconds > 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "unknown study `nowhere`"),
        (["graded", "--x", "knos"], "unknown predictor `knos`: did you mean `knows`?"),
        (["graded", "--y", "final"], "unknown column `final`"),
        (["graded", "-k", "0"], "`k` must be at least 1, but got 0"),
        (["graded", "-o", "board.txt"], "`board.txt` must end in .csv, .parquet or .json"),
        (["graded", "--figure", "board.gif"], "`board.gif` must end in .svg, .png or .pdf"),
        (["graded", "--figure", "nowhere/board.svg"], "the folder `nowhere` does not exist"),
        (["graded", "--images", "8"], "`--criteria` and `--images` say what to measure: they go with `--measure`"),
        (["graded", "--x", "same_for_all"], "no predictor judges all the cells"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    words: list[str], line: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["trueoracle", "criteria", *words, "--store", url])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert line in capsys.readouterr().err


def test_nothing_to_judge_is_an_error(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 's.db'}", create=True)
    graded_study(store, searched=20)
    with pytest.raises(
        TableError, match="no cell can be judged: conv1-0.5, base 0 of graded is left out, as all masks"
    ):
        compare(store, ["graded"])


def test_the_picture_is_the_same_bytes_every_time(board: Leaderboard, tmp_path: Path) -> None:
    for ending in (".svg", ".png", ".pdf"):
        write_ranking(board, tmp_path / f"one{ending}")
        write_ranking(board, tmp_path / f"two{ending}")
        assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()
    with pytest.raises(ReportError, match="must end in"):
        write_ranking(board, tmp_path / "one.jpg")


def test_the_report_has_the_leaderboard(url: str, tmp_path: Path) -> None:
    write_report(Store(url), "graded", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert 'id="criteria"' in page
    assert "Not judged, as the order of its masks" in page
    assert page.index("knows</th>") < page.index("reversed l1</th>")
