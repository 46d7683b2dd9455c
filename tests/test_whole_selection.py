"""Selections from end to end: stopped and gone on with, stored, reported, under a limit."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from trueoracle import api
from trueoracle.cli.app import app
from trueoracle.executors import Stop, Threads
from trueoracle.selection.budget import parse_budget
from trueoracle.selection.choose import Request, Workplace, choose
from trueoracle.store import Store
from trueoracle.study import Paused, changed, load_spec
from trueoracle.words.progress import Quiet
from trueoracle.words.selection import Selected, selected_from
from trueoracle.words.spec import CellSpec

RUNGS = {"retrain.epochs": 9, "retrain.milestones": [6]}  # enough for two: of 3 and of 9 epochs


class Killed(BaseException):
    """As a kill: nothing heeds it."""


class Stopping:
    """One thread, and what stops it after so many results in all."""

    workers = 1

    def __init__(self, results: int = 10**9, by: type[BaseException] = Killed) -> None:
        self.begun, self.results, self._by = results, results, by

    def run(self, work: Callable[[Any, Stop], Any], items: Iterable[Any]) -> Iterator[Any]:
        for result in Threads(1).run(work, items):
            if self.results == 0:
                raise self._by
            self.results -= 1
            yield result


def test_a_selection_killed_and_interrupted_ends_as_a_calm_one(tmp_path: Path) -> None:
    spec = changed(
        load_spec("quickstart", scale="tiny").facts(),
        {"repeats": 1, "seeds_of": "here", **RUNGS},
        "quickstart",
    )
    spec = spec.model_copy(update={"cells": (CellSpec(prune={"conv1": 0.5}),)})
    data = api.Study(spec, progress=Quiet()).data()
    stores = {name: Store(f"sqlite:///{tmp_path / name}.db", create=True) for name in ("calm", "rough")}

    def run(name: str, executor: Stopping) -> Selected:
        request = Request(name="mine", template=spec, budget=parse_budget("60-epochs"))
        place = Workplace(data=data, store=stores[name], executor=executor, progress=Quiet(), backend="auto")
        return replace(choose(request, place), seconds=0.0)

    calm = Stopping()
    expected = run("calm", calm)
    whole = calm.begun - calm.results
    assert expected.study == "mine"
    with pytest.raises(Paused):  # before there is anything to choose from
        run("rough", Stopping(0, KeyboardInterrupt))
    with pytest.raises(Killed):
        run("rough", Stopping(whole // 2))
    assert stores["rough"].studies()
    so_far = stores["rough"].selection("mine")
    assert so_far is not None
    assert (so_far.stopped, so_far.study, so_far.reason) == (True, "", "it is not finished")
    assert run("rough", Stopping()) == expected
    assert replace(stores["rough"].selections()[0], seconds=0.0) == expected
    for study in {one.name for one in stores["calm"].studies()}:
        tables = [store.trial_table(store.find(study).digest).drop(columns=["seconds"]) for store in stores.values()]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_the_store_keeps_the_best_so_far_after_every_wave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Selected] = []
    monkeypatch.setattr(Store, "keep_selection", lambda _, found: kept.append(found))
    last = api.select(
        study="quickstart", scale="tiny", set=RUNGS, budget="60-epochs", name="mine",
        store=f"sqlite:///{tmp_path / 's.db'}", threads=1, progress=Quiet(),
    ).selected  # fmt: skip
    assert kept[-1] == last
    assert [one.stopped for one in kept] == [True] * len(last.studies) + [False]
    assert [len(one.studies) for one in kept[:-1]] == [*range(1, len(last.studies) + 1)]
    assert len(kept[0].rungs) == 1 < len(last.rungs)


def test_a_selection_is_stored_reported_and_exported_from(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 's.db'}"
    found = api.select(
        study="quickstart",
        scale="tiny",
        set=RUNGS,
        budget="60-epochs",
        name="mine",
        store=store,
        threads=1,
        progress=Quiet(),
    )
    first = found.selected
    assert first.study == "mine"
    assert first.spent <= 60
    assert {one.name for one in first.rivals} >= {"lowest pruned train loss", "L1", "random"}
    trials = api.Study.stored("mine", store=store).trials()
    assert list(trials["mask"].unique()) == [first.chosen.mask]
    assert trials["final_test_accuracy"].mean() == pytest.approx(first.test.value, abs=1e-12)
    assert {record.name for record in Store(store).studies()} >= {"mine", "mine-1", "mine-2", "mine-rivals"}
    assert Store(store).selection("mine") == first
    found.write(tmp_path / "out")
    assert selected_from((tmp_path / "out" / "selection.json").read_text()) == first
    told = CliRunner().invoke(app, ["report", "mine", "--store", store, "-o", str(tmp_path / "again.html")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "again.html").read_text() == (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_several_ways_compete_under_a_limit(tmp_path: Path) -> None:
    """From the command line: the chosen mask meets the limit, and leaves a multiple of so many units."""
    words = (
        "select", "quickstart", "--scale", "tiny", "--budget", "24-epochs", "--prune", "conv1", "--prune", "conv2", "--macs", "0.6",
        "--round-to", "2", "--compare", "none", "--name", "limited", "--threads", "1", "--store", f"sqlite:///{tmp_path / 's.db'}",
    )  # fmt: skip
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    found = Store(f"sqlite:///{tmp_path / 's.db'}").selection("limited")
    assert found is not None
    assert found.limit == "at most 0.6 of the operations"
    assert found.macs[1] <= 0.6 * found.macs[0]
    assert all(len(units) % 2 == 0 for units in found.pruned.values())
    assert len({one.cell for one in found.candidates}) > 1
