"""The public table: a round trip loses nothing, what is published is what the seeds give, and predictors are judged as in a store."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import mlcroissant
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import trueoracle
from made_up import graded_study
from trueoracle import Study
from trueoracle.analysis import Better, compare
from trueoracle.cli.app import main
from trueoracle.store import Store, StudyRecord
from trueoracle.study import builtin_studies
from trueoracle.truth import FILES, TruthTable, build, restore, score, table, verify
from trueoracle.truth.columns import KEY
from trueoracle.truth.scoring import splits
from trueoracle.words.errors import StoreError, TableError
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import CellSpec, parse_spec


@pytest.fixture(scope="module")
def made(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> TruthTable:
    """A table of a study that was run here: two cells, ten masks, twenty trials."""
    folder = tmp_path_factory.mktemp("table") / "t"
    build(
        folder, Store(finished.store_url), ["quickstart"], Quiet(), version="1.0.0", commit="abc", hardware="a laptop"
    )
    return TruthTable(folder)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, TruthTable]:
    """A study of three base networks that nobody ran, in a store and in a table."""
    folder = tmp_path_factory.mktemp("graded")
    url = f"sqlite:///{folder / 's.db'}"
    graded_study(
        Store(url, create=True), scores={"knows": lambda _, worth: -worth, "random": lambda rng, _: rng.random()}
    )
    build(folder / "t", Store(url), ["graded"], Quiet(), version="1.0.0")
    return url, TruthTable(folder / "t")


def test_a_study_comes_back_into_a_store_as_it_was(made: TruthTable, finished: Study, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'back.db'}", create=True)
    digest = restore(made, "quickstart", store, Quiet())
    before = Store(finished.store_url)
    assert digest == finished.plan.digest
    assert store.find(digest).spec == before.find(digest).spec
    assert store.cells(digest) == before.cells(digest)
    assert asdict(store.base(digest)) == asdict(before.base(digest))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(store.trial_table(digest), before.trial_table(digest))
    pd.testing.assert_frame_equal(store.mask_table(digest), before.mask_table(digest))
    pd.testing.assert_frame_equal(store.curve_table(digest), before.curve_table(digest), rtol=1e-7)
    for cell in store.cells(digest):
        again, then = store.answers(digest, cell.index), before.answers(digest, cell.index)
        assert again is not None
        assert then is not None
        np.testing.assert_array_equal(again.right_MRI, then.right_MRI)
    whole = Study("quickstart", set=json_changes(finished), store=store.url, progress=Quiet())
    assert whole.status().left == 0


def json_changes(study: Study) -> dict[str, object]:
    facts = study.spec.facts()
    return {key: facts[key] for key in ("train", "retrain", "repeats", "cells")}


def test_several_base_networks_come_back_too(graded: tuple[str, TruthTable], tmp_path: Path) -> None:
    url, made = graded
    store = Store(f"sqlite:///{tmp_path / 'back.db'}", create=True)
    digest = restore(made, "graded", store, Quiet())
    pd.testing.assert_frame_equal(store.trial_table(digest), Store(url).trial_table(digest))
    assert store.cells(digest) == Store(url).cells(digest)


def test_trials_made_again_are_the_published_ones(made: TruthTable) -> None:
    found = verify(made, "quickstart", Quiet(), trials=3, data_dir=None)
    assert [one.same for one in found] == [True] * 3
    assert all(one.largest == 0 for one in found)


def test_a_trial_that_was_changed_is_found_out(made: TruthTable, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "t")
    path = tmp_path / "t" / "quickstart" / "trials.parquet"
    rows = pq.read_table(path)
    at = rows.column_names.index("final_test_loss")
    pq.write_table(
        rows.set_column(at, "final_test_loss", [[value + 1e-12 for value in rows["final_test_loss"].to_pylist()]]), path
    )
    with pytest.raises(TableError, match="quickstart/trials.parquet` is not as it was published"):
        verify(TruthTable(tmp_path / "t"), "quickstart", Quiet(), trials=2, data_dir=None)
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    manifest["studies"]["quickstart"]["files"]["trials"]["sha256"] = sha(path)
    (tmp_path / "t" / "manifest.json").write_text(json.dumps(manifest))
    found = verify(TruthTable(tmp_path / "t"), "quickstart", Quiet(), trials=2, data_dir=None)
    assert [one.same for one in found] == [False] * 2
    assert all(0 < one.largest < 1e-11 for one in found)


def sha(path: Path) -> str:
    from trueoracle.truth.manifest import digest_of

    return digest_of(path)


def test_the_files_are_read_without_us(made: TruthTable) -> None:
    for file, columns in FILES.items():
        frame = pd.read_parquet(made.folder / "quickstart" / f"{file}.parquet")
        assert list(frame.columns)[: len(columns)] == [column.name for column in columns]
        assert not frame.duplicated(KEY[file]).any()
        for field in pq.read_schema(made.folder / "quickstart" / f"{file}.parquet"):
            assert field.metadata[b"description"]


def test_a_cell_is_looked_up_by_name(made: TruthTable, finished: Study) -> None:
    found = table("quickstart/conv1-0.5", folder=made.folder)
    of_cell = finished.trials().query("cell == 'conv1-0.5'")
    assert len(found) == len(of_cell) == 12
    np.testing.assert_array_equal(found["final_test_loss"], of_cell["final_test_loss"])
    np.testing.assert_array_equal(found["l1"], of_cell["l1"])
    for kept, pruned in zip(found["kept"], of_cell["pruned"], strict=True):
        assert set(kept[0]) | set(json.loads(pruned)["conv1"]) == set(range(10))
    with pytest.raises(TableError, match=r"unknown cell `conv1-0.4`: did you mean `conv1-0.5`"):
        table("quickstart/conv1-0.4", folder=made.folder)
    with pytest.raises(TableError, match="unknown study `quickstar`"):
        table("quickstar", folder=made.folder)
    with pytest.raises(TableError, match="unknown file `trails`"):
        table("quickstart", "trails", folder=made.folder)


def test_a_predictor_is_judged_as_in_a_store_that_has_it(graded: tuple[str, TruthTable]) -> None:
    url, made = graded
    masks = made.frame("graded", "masks").merge(made.frame("graded", "scores"), on=["study", *KEY["masks"]])
    masks["mine"] = -masks["knows"]
    (found,) = score(
        masks, "mine", "higher", study="graded", folder=made.folder, split=splits(made, "graded")[0].name
    ).values()
    rows = {row.x: row for row in found.rows}
    assert rows["mine"].agreement == rows["knows"].agreement
    if len(splits(made, "graded")) == 1:
        whole = {row.x: row for row in compare(Store(url), ["graded"], better={"mine": Better.HIGHER}).rows}
        assert whole["knows"].agreement == rows["mine"].agreement
    wrong = score(masks, "mine", "lower", study="graded", folder=made.folder)
    assert all(next(row for row in board.rows if row.x == "mine").agreement.mean < 0 for board in wrong.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.drop(columns="base"), "unknown column `base`"),
        (lambda m: m.assign(mine=float("nan")), "`mine` is missing or not a finite number for"),
        (lambda m: m.iloc[1:], "`mine` is missing or not a finite number for 1 of"),
        (lambda m: pd.concat([m, m.iloc[:1]]), "a mask stands twice"),
        (lambda m: m.iloc[:1].assign(cell="conv9-0.5"), "unknown cell `conv9-0.5`"),
        (lambda m: m.assign(mask=m["mask"] + 10**9), "is none of `graded`"),
        (lambda m: m.assign(mask="first"), "`mask` must be a rank, a whole number from 0 on, but got `first`"),
        (lambda m: m.assign(mask=m["mask"] + 0.5), "`mask` must be a rank, a whole number from 0 on, but got `0.5`"),
    ],
)
def test_what_cannot_be_judged_is_refused(graded: tuple[str, TruthTable], change, says: str) -> None:  # type: ignore[no-untyped-def]
    made = graded[1]
    masks = change(made.frame("graded", "masks").assign(mine=1.0))
    with pytest.raises(TableError, match=says):
        score(masks, "mine", "lower", study="graded", folder=made.folder)


def test_a_direction_must_be_said(graded: tuple[str, TruthTable]) -> None:
    with pytest.raises(TableError, match="`better` must be lower or higher, but got `up`"):
        score(
            graded[1].frame("graded", "masks").assign(mine=1.0), "mine", "up", study="graded", folder=graded[1].folder
        )


def test_what_was_published_is_never_changed_under_its_version(made: TruthTable, finished: Study) -> None:
    before = (made.folder / "manifest.json").read_text()
    with pytest.raises(TableError, match=r"has version 1.0.0 already"):
        build(made.folder, Store(finished.store_url), ["quickstart"], Quiet(), version="1.0.0")
    assert (made.folder / "manifest.json").read_text() == before


def test_masks_whose_ranks_outgrow_64_bits_come_back_too(tmp_path: Path) -> None:
    sgd = {"optimiser": "sgd", "lr": 0.05, "epochs": 1, "batch_size": 32}
    facts = {
        "name": "many", "model": "resnet20", "width_factor": 0.25, "data": "digits", "train_images": 64, "test_images": 40,
        "train": sgd, "retrain": sgd, "cells": [{"prune": {"layer*.conv1": 0.5}, "draw": 3}], "repeats": 1, "final": "last",
    }  # fmt: skip
    study = Study(parse_spec(facts, "many"), store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet())
    study.run()
    build(tmp_path / "t", Store(study.store_url), ["many"], Quiet(), version="1.0.0")
    many = TruthTable(tmp_path / "t")
    ranks = [int(rank) for rank in study.trials()["mask"]]
    assert min(ranks) > 2**63
    assert many.trials("many")["mask"].tolist() == ranks
    text = pd.read_parquet(tmp_path / "t" / "many" / "trials.parquet")["mask"].tolist()
    assert text == sorted(text)
    assert [int(rank) for rank in text] == ranks
    again = Store(f"sqlite:///{tmp_path / 'again.db'}", create=True)
    digest = restore(many, "many", again, Quiet())
    assert [int(rank) for rank in again.trial_table(digest)["mask"]] == ranks
    assert all(one.same for one in verify(many, "many", Quiet(), trials=2, data_dir=None))
    given = many.frame("many", "masks").assign(mine=[0.1, 0.3, 0.2])
    given["mask"] = given["mask"].map(str)  # as it is read out of a file
    boards = score(given, "mine", "lower", study="many", folder=many.folder)
    assert all("mine" in {row.x for row in board.rows} for board in boards.values())


def test_masks_of_single_weights_are_refused(tmp_path: Path) -> None:
    spec = builtin_studies()["quickstart"].model_copy(update={"cells": (CellSpec(weights={"conv1": 0.5}, draw=2),)})
    store = Store(f"sqlite:///{tmp_path / 's.db'}", create=True)
    store.add_study(StudyRecord(digest=spec.digest(), name=spec.name, spec=json.dumps(spec.facts())))
    with pytest.raises(TableError, match="prune single weights: the table holds masks of units"):
        build(tmp_path / "t", store, [spec.name], Quiet(), version="1.0.0")
    assert not list((tmp_path / "t").iterdir())


def test_a_table_of_a_newer_format_is_refused(made: TruthTable, tmp_path: Path) -> None:
    facts = json.loads((made.folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**facts, "format": 2}))
    with pytest.raises(TableError, match="has format 2, newer than 1: update trueoracle"):
        TruthTable(tmp_path)
    with pytest.raises(TableError, match="there is no table in"):
        TruthTable(tmp_path / "nowhere")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the validator's own libraries
def test_croissant_describes_every_column(made: TruthTable) -> None:
    described = mlcroissant.Dataset(made.folder / "croissant.json")
    assert not described.metadata.issues.errors
    columns = {field.id for records in described.metadata.record_sets for field in records.fields}
    for file in FILES:
        schema = pq.read_schema(made.folder / "quickstart" / f"{file}.parquet")
        assert {f"quickstart/{file}/{name}" for name in schema.names} <= columns
    first = next(iter(described.records("quickstart/cells")))
    assert first["quickstart/cells/cell"] in (b"conv1-0.5", "conv1-0.5")


def test_the_command_line(
    made: TruthTable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ran(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["trueoracle", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    own = ("--table", str(made.folder))
    assert "quickstart" in ran("table", "list", *own)[1]
    assert "conv3-0.2" in ran("table", "show", "quickstart", *own)[1]
    assert "6 masks of base networks, 12 trials" in ran("table", "show", "quickstart/conv1-0.5", *own)[1]
    code, out, _ = ran("table", "verify", "quickstart", "--trials", "1", *own)
    assert (code, "1 of 1 trials made again are the same to the bit" in out) == (0, True)
    assert ran("table", "export", "quickstart", "-o", str(tmp_path / "x.csv"), *own)[0] == 0
    assert json.loads(pd.read_csv(tmp_path / "x.csv")["kept"][0])
    assert ran("table", "export", "quickstart", *own)[0] == 2
    assert ran("table", "export", "quickstart", "-o", str(tmp_path / "a.csv"), "--file", "answers", *own)[0] == 2
    url = f"sqlite:///{tmp_path / 'back.db'}"
    assert ran("table", "export", "quickstart", "--store", url, *own)[0] == 0
    assert "20 of 20 trials finished" in ran("status", "quickstart", "--store", url)[1]
    code, _, err = ran("table", "export", "quickstart", "--store", url, *own)
    assert (code, "stands in the store" in err) == (2, True)
    made.frame("quickstart", "masks")[["base", "cell", "mask", "pruned_train_accuracy"]].rename(
        columns={"pruned_train_accuracy": "mine"}
    ).to_csv(tmp_path / "mine.csv", index=False)
    code, _, err = ran("score", str(tmp_path / "mine.csv"), "--study", "quickstart", *own)
    assert (code, "--better" in err) == (2, True)


def test_a_study_that_stands_there_is_not_written_over(made: TruthTable, finished: Study) -> None:
    from trueoracle.api import restore_study

    with pytest.raises(StoreError, match="stands in the store"):
        restore_study(made, "quickstart", finished.store_url, None, Quiet())


def test_the_published_table_is_whole_and_of_the_built_in_studies() -> None:
    published = TruthTable()
    known = builtin_studies()
    size = 0
    for study, facts in published.manifest.studies.items():
        published.check(study)
        assert facts.digest == known[study].digest()
        assert facts.trials == len(published.frame(study)) <= facts.planned
        size += sum(file.bytes for file in facts.files.values())
    assert size < 25e6
    of_cell = trueoracle.table("digits/conv1-0.5")
    assert of_cell.groupby(["base", "mask"]).size().eq(3).all()
    assert len(of_cell) == 5 * 252 * 3


def test_every_column_stands_in_the_docs() -> None:
    told = (Path(__file__).parents[1] / "docs" / "table.md").read_text()
    for columns in FILES.values():
        for column in columns:
            assert f"| `{column.name}` | {column.type} | {column.says} |" in told


def test_the_names_of_the_package() -> None:
    assert trueoracle.table is table
    assert trueoracle.score is score
