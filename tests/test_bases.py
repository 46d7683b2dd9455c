"""Several base networks: each is one case, apart in every table and pooled over cases."""

from pathlib import Path

import numpy as np
import pytest

from conftest import TINY
from trueoracle import Study
from trueoracle.analysis import Absent, Interval, pool
from trueoracle.store import Store
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet

FEW = {**TINY, "cells": [{"prune": {"conv1": 0.5}, "draw": 5}], "repeats": 1}


def few(folder: Path, bases: int) -> Study:
    store = f"sqlite:///{folder / f'{bases}.db'}"
    study = Study("quickstart", set={**FEW, "base_networks": bases}, store=store, threads=1, progress=Quiet())
    study.run()
    return study


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return few(tmp_path_factory.mktemp("bases"), 3)


def test_each_base_is_a_network_of_its_own_that_prunes_the_same_masks(three: Study) -> None:
    assert len({three.base_weights(number) for number in range(3)}) == 3
    trials = three.trials()
    assert trials["base"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert trials["cell"].unique().tolist() == [f"conv1-0.5, base {base}" for base in range(3)]
    assert trials.groupby("base")["mask"].apply(tuple).nunique() == 1
    assert trials["seed"].nunique() == 3
    assert trials["pruned_train_loss"].nunique() == 15
    assert three.status().total == 15


def test_the_analysis_shows_them_apart_and_pooled(three: Study) -> None:
    apart = three.analyze()
    assert [cell.group for cell in apart] == [f"conv1-0.5, base {base}" for base in range(3)]
    (pooled,) = three.pooled()
    assert (pooled.group, pooled.x, pooled.y) == ("conv1-0.5", "pruned_train_loss", "final_test_accuracy")
    assert pooled.taus == tuple(cell.kendall_tau for cell in apart)
    assert pooled.mean_tau == pytest.approx(np.mean(pooled.taus))
    assert isinstance(pooled.interval, Interval)
    half = 4.302652729911275 * np.std(pooled.taus, ddof=1) / 3**0.5  # Student's t, two degrees of freedom, 95 %
    assert pooled.interval.low == pytest.approx(max(-1, pooled.mean_tau - half))
    assert pooled.interval.high == pytest.approx(min(1, pooled.mean_tau + half))


def test_the_report_shows_them_apart_and_pooled(three: Study, tmp_path: Path) -> None:
    three.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert all(f'id="cell-conv1-0.5-base-{base}"' in page for base in range(3))
    assert "Over base networks: each is one case" in page


def test_one_base_network_is_not_pooled(finished: Study) -> None:
    assert finished.pooled() == []


def test_an_interval_needs_two_networks(three: Study) -> None:
    (pooled,) = pool(three.analyze()[:1], Store(three.store_url).cells(three.plan.digest))
    assert pooled.interval == Absent(why="an interval over base networks needs at least two that are analysed")


def test_base_weights_are_one_network(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="`base_weights` hold one base network, but `base_networks` is 2"):
        Study("quickstart", set={"base_networks": 2}, base_weights=tmp_path / "w.safetensors")


def test_a_base_that_the_study_does_not_have(three: Study) -> None:
    with pytest.raises(SpecError, match=r"`number` must lie in \[0, 3\), but got 3"):
        three.base_weights(3)


def test_studies_with_the_same_seeds_share_base_networks_masks_and_orders(tmp_path: Path) -> None:
    def run(**facts: object) -> Study:
        study = Study("quickstart", set={**FEW, **facts}, store=f"sqlite:///{tmp_path / 's.db'}", progress=Quiet())
        study.run()
        return study

    aligned = run(seeds_of="a pair")
    released = run(seeds_of="a pair", removal="released")
    apart = run(removal="released")
    assert aligned.base_weights() == released.base_weights() != apart.base_weights()
    for column in ("mask", "seed"):
        assert (
            aligned.trials()[column].tolist() == released.trials()[column].tolist() != apart.trials()[column].tolist()
        )
    assert aligned.trials()["final_test_loss"].tolist() != released.trials()["final_test_loss"].tolist()
