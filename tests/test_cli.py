"""The command as a user types it: what it prints, what it writes, and how it says no."""

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from trueoracle import Study, TrueOracleError
from trueoracle.analysis.machines import STORE_RATE
from trueoracle.cli.app import app, main
from trueoracle.nets import build
from trueoracle.study import builtin_studies
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)


def call(*words: str) -> str:
    """What the command prints; a broken rule is raised as `main` would get it."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def store(finished: Study) -> str:
    return finished.store_url


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(build("lenet5-mini", SHAPE).state_dict(), path)
    return path


def test_studies_is_a_table_of_the_built_in_ones() -> None:
    rows = {line.split()[0]: line.split() for line in call("studies", "--store", "sqlite:///nowhere.db").splitlines()}
    assert rows["quickstart"] == ["quickstart", "lenet5-mini", "digits", "252", "504", "-"]
    assert rows["lenet5-mini-mnist"][3:] == ["7,006", "21,018", "-"]
    assert set(builtin_studies()) <= set(rows)


def test_a_study_is_described_with_its_cells_folded() -> None:
    printed = call("studies", "lenet5-mini-mnist", "--store", "sqlite:///nowhere.db")
    assert "conv1 at 0.2 (45 masks), 0.3 (120 masks)" in printed
    assert "conv1 + conv2 + conv3 at 0.5 (1,000 masks, drawn)" in printed
    assert "core-time of retraining: not measured yet" in printed
    with pytest.raises(TrueOracleError, match="unknown study `quickstrat`: did you mean `quickstart`"):
        call("studies", "quickstrat")


def test_what_a_study_takes_is_told_by_trials_of_its_like(store: str, finished: Study) -> None:
    seconds = finished.trials()["seconds"].mean()
    (row,) = [line for line in call("studies", "--store", store).splitlines() if line.startswith("quickstart")]
    number, unit = row.split()[-2:]
    told = float(number) * {"seconds": 1, "minutes": 60, "hours": 3600}[unit]
    # 504 trials of 8 epochs, by trials of 2 epochs.
    assert told == pytest.approx(504 * seconds * 8 / 2, rel=0.01)


def test_status_of_a_finished_study(store: str) -> None:
    assert "quickstart: 20 of 20 trials finished, 0 diverged, 0 failed, 0 left" in call(
        "status", "quickstart", "--store", store
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_trials_and_curves_are_written(store: str, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    call("trials", "quickstart", "-o", str(path), "--store", store)
    table = pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)
    assert len(table) == 20
    assert all(len(pruned["conv1"]) == 5 for pruned in map(json.loads, table["pruned"]) if "conv1" in pruned)
    call("trials", "quickstart", "--curves", "-o", str(path), "--store", store)
    assert len(pd.read_csv(path) if ending == "csv" else pd.read_parquet(path)) == 40


def test_analyze_prints_json_for_studies_and_tables_alike(store: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    call("trials", "quickstart", "-o", str(path), "--store", store)
    of_study = json.loads(call("analyze", "quickstart", "--json", "--store", store))
    of_table = json.loads(call("analyze", str(path), "--json"))
    assert [group["group"] for group in of_study] == ["conv1-0.5", "conv3-0.2"]
    flat = ("group", "n", "kendall_tau", "kendall_p", "anomaly_ratio")
    assert all(isinstance(of_study[0][key], str | int | float) for key in flat)
    # A table knows neither classes nor costs nor single answers nor, of drawn masks, how many units a site has.
    for part in (*flat, "ceiling"):
        assert [group[part] for group in of_study] == [group[part] for group in of_table]
    assert of_study[0]["regime"]["classes"] == 10
    assert of_table[0]["regime"]["classes"] is None
    assert of_table[0]["absent"]["regime.classes"] == "the number of classes is not known: name it with `--classes`"


def test_analyze_writes_tables_and_latex(store: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    printed = call("analyze", "quickstart", "-o", str(path), "--store", store)
    assert "ceiling" in printed
    table = pd.read_csv(path)
    assert list(table["group"]) == ["conv1-0.5", "conv3-0.2"]
    assert {"kendall_tau", "association_spearman_rho", "choice_at_1_precision", "predictors_l1_agreement"} <= set(table)
    call("analyze", "quickstart", "-o", str(path.with_suffix(".parquet")), "--store", store)
    assert len(pd.read_parquet(path.with_suffix(".parquet"))) == 2
    call("analyze", "quickstart", "-o", str(path.with_suffix(".tex")), "--store", store)
    assert "Layers & $0.2$ & $0.5$" in path.with_suffix(".tex").read_text()
    with pytest.raises(TrueOracleError, match=r"must end in .csv, .parquet or .tex"):
        call("analyze", "quickstart", "-o", str(tmp_path / "a.txt"), "--store", store)


def test_several_predictors_are_ranked(store: str) -> None:
    words = ["analyze", "quickstart", "--x", "pruned_train_loss", "--x", "l1", "--store", store]
    assert "predictors, best first" in call(*words)
    (first, *_) = json.loads(call(*words, "--json"))
    assert first["x"] == "pruned_train_loss"
    assert sorted(one["x"] for one in first["predictors"]) == ["l1", "pruned_train_loss"]
    agreements = [one["agreement"] for one in first["predictors"]]
    assert agreements == sorted(agreements, reverse=True)


def test_plan_from_a_pilot_and_from_assumptions(store: str) -> None:
    needs = json.loads(call("plan", "quickstart", "--reliability", "0.5", "--repeats", "2", "--json", "--store", store))
    assert [need["cell"] for need in needs] == ["conv1-0.5", "conv3-0.2"]
    # Ten filters: chance alone aligns their effects further than tau = 0.2 goes.
    assert "no number of masks is enough" in needs[0]["masks"]["absent"]
    assert "core-hours" in call("plan", "--reliability", "0.5", "--units", "512", "--trial-seconds", "60")
    with pytest.raises(TrueOracleError, match="name a pilot study, or give `--reliability`"):
        call("plan")


def test_plan_says_how_long_machines_take_what_they_cost_and_where_the_store_is_their_limit() -> None:
    words = ["plan", "--reliability", "0.5", "--units", "512", "--repeats", "2", "--trial-seconds", "60"]
    few = json.loads(call(*words, "--nodes", "2", "--cores", "4", "--price", "3", "--json"))[0]
    rounds = -(-few["trials"] // 16) / 8  # fleets of 16 on eight cores
    assert few["hours"] == pytest.approx(-(-rounds // 1) * 16 * 60 / 3600)
    assert few["cost"] == pytest.approx(2 * 3 * few["hours"])
    assert few["limit"] == "cores"
    assert "store" not in call(*words, "--nodes", "2", "--cores", "4")
    fast = [*words[:-1], "0.001", "--nodes", "1000", "--cores", "64"]
    assert "the store is the limit" in call(*fast)
    many = json.loads(call(*fast, "--json"))[0]
    assert (many["limit"], many["cost"]) == ("store", None)
    assert many["hours"] == pytest.approx(many["trials"] / STORE_RATE / 3600)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "ten"], "`--classes` takes N or GROUP=N, but got `ten`"),
        (["--classes", "1"], "`classes` must be at least 2, but got 1"),
        (["--classes", "g=3"], "unknown group `g`"),
        (["--margin", "1.5"], r"`margin` must lie in \(0, 1\), but got 1.5"),
        (["--resamples", "5"], "`resamples` must be at least 99, but got 5"),
    ],
)
def test_options_of_analyze_that_make_no_sense(words: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"x": range(12), "y": range(12)}).to_csv(path, index=False)
    with pytest.raises(TrueOracleError, match=message):
        call("analyze", str(path), "--x", "x", "--y", "y", *words)


def test_a_criterion_can_be_the_predictor(store: str) -> None:
    assert json.loads(call("analyze", "quickstart", "--x", "l1", "--json", "--store", store))[0]["x"] == "l1"


def test_oracle_writes_every_mask_in_order(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "o.parquet"
    call("oracle", "--model", "lenet5-mini", "--weights", str(weights), "--data", "digits",
         "--prune", "conv2=0.2", "-o", str(path))  # fmt: skip
    table = pd.read_parquet(path)
    assert list(table["mask"]) == list(range(45))
    assert sorted(table["pruned"])[0] == '{"conv2": [0, 1]}'


def test_oracle_can_draw_a_sample(weights: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "all.csv", tmp_path / "some.csv"]
    words = ["oracle", "--model", "lenet5-mini", "--weights", str(weights), "--data", "digits", "--prune", "conv2=0.2"]
    call(*words, "-o", str(paths[0]))
    call(*words, "-o", str(paths[1]), "--sample", "7", "--seed", "3")
    everything, some = map(pd.read_csv, paths)
    assert len(some) == 7
    assert some["mask"].is_monotonic_increasing
    pd.testing.assert_frame_equal(some, everything[everything["mask"].isin(some["mask"])].reset_index(drop=True))


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ({"x": [1, 2, 3], "y": [1.0, None, 2]}, ["--x", "x", "--y", "y"], "column `y` holds 1 missing or infinite"),
        ({"x": [1, 1, 1], "y": [1, 2, 3]}, ["--x", "x", "--y", "y"], "column `x` is constant"),
        ({"x": [1, 2, 3], "y": [1, 2, 3]}, ["--x", "x", "--y", "z"], "unknown column `z`"),
        ({"x": [1, 2, 3], "y": [*"abc"]}, ["--x", "x", "--y", "y"], "column `y` must hold numbers"),
        ({"x": [1, 2], "y": [1, 2]}, ["--x", "x", "--y", "y"], "at least 3 masks"),
        ({"x": [1, 2, 3], "y": [1, 2, 3]}, ["--x", "x", "--y", "y", "--group", "g"], "unknown column `g`"),
    ],
)
def test_a_table_that_cannot_be_analyzed_is_one_clear_line(
    rows: dict[str, list[object]], words: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(TrueOracleError, match=message):
        call("analyze", str(path), *words)


def test_a_broken_rule_is_one_line_on_standard_error_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trueoracle", "run", "quickstrat"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: unknown study `quickstrat`")
    assert captured.err.count("\n") == 1


def test_the_report_is_one_page_without_links(store: str, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    call("report", "quickstart", "-o", str(path), "--store", store)
    page = path.read_text()
    assert "conv1-0.5" in page
    assert "approximate oracle mask" in page
    assert "<script src" not in page
    assert "<link" not in page


def test_running_a_finished_study_does_nothing_and_says_so(store: str) -> None:
    words = ["--set", "train.epochs=3", "--set", "train.milestones=[2]", "--set", "retrain.epochs=2",
             "--set", "retrain.milestones=[1]", "--set", "repeats=2",
             "--set", "cells=[{prune: {conv1: 0.5}, draw: 6}, {prune: {conv3: 0.2}, draw: 4}]"]  # fmt: skip
    assert "finished already: 20 trials; nothing was run" in call("run", "quickstart", *words, "--store", store)


def test_doctor_speaks_of_everything(store: str) -> None:
    printed = call("doctor", "--store", store)
    assert all(word in printed for word in ("python:", "torch:", "cuda:", "data:", "1 studies"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "quickstrat"], "unknown study `quickstrat`: did you mean `quickstart`"),
        (["run", "quickstart", "--set", "retrian.epochs=3"], "unknown key `retrian`: did you mean `retrain`"),
        (["run", "quickstart", "--set", "retrain.epoch=3"], "unknown key `epoch`: did you mean `epochs`"),
        (["run", "quickstart", "--set", "retrain.epochs=many"], "`retrain.epochs`: input should be a valid integer"),
        (["run", "quickstart", "--set", "retrain.epochs"], "`--set` takes path=value"),
        (["run", "quickstart", "--set", "cells.7.draw=2"], "`7` must be a number from 0 to 0"),
        (["run", "quickstart", "--set", "model=lenet5-mimi"], "unknown model `lenet5-mimi`: did you mean `lenet5-mini`"),
        (["run", "quickstart", "--set", "data=minst"], "unknown dataset `minst`: did you mean `mnist`"),
        (["run", "quickstart", "--set", "cells.0.prune={conv9: 0.5}"], "unknown site `conv9`"),
        (["run", "quickstart", "--set", "cells.0.prune={conv1: 0.01}"], "prunes nothing of `conv1`"),
        (["run", "quickstart", "--set", "cells.0.prune={conv1: 1.0}"], r"must lie in \(0, 1\), but got 1.0"),
        (["run", "quickstart", "--set", "cells.0.draw=253"], "cannot draw 253 masks from a space of 252"),
        (["run", "quickstart", "--base-weights", "none.safetensors"], "`none.safetensors` cannot be read: No such file"),
        (["run", "quickstart", "--device", "tpu"], "`device` must be cpu or cuda, but got `tpu`"),
        (["run", "quickstart", "--threads", "0"], "`threads` must be at least 1"),
        (["run", "missing.yaml"], "the study `missing.yaml` cannot be read"),
        (["status", "quickstart"], "there is no store at `trueoracle.db`"),
        (["run", "quickstart", "--store", "nonsense"], "`nonsense` is no store"),
        (["analyze", "missing.parquet"], "the table `missing.parquet` cannot be read"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrueOracleError, match=message) as problem:
        call(*words)
    assert "\n" not in str(problem.value)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = path.read_bytes()
    with pytest.raises(TrueOracleError, match="is no trueoracle store: nothing was changed"):
        call("run", "quickstart", "--store", f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("not a database at all, only some text that is long enough" * 20)
    with pytest.raises(TrueOracleError, match="is no database"):
        call("status", "quickstart", "--store", f"sqlite:///{path}")
