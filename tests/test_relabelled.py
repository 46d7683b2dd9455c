"""The oracle as the null of drawn masks asks it."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from simulated import X, Y, cell, drawn_kept
from trueoracle import Study
from trueoracle.analysis import Options
from trueoracle.analysis.analyze import analyze_cells
from trueoracle.analysis.cells import study_masks
from trueoracle.analysis.null import Draws, Unavailable, unit_null
from trueoracle.analysis.result import NullKind, UnitNull
from trueoracle.analysis.units import Units, units_of
from trueoracle.analysis.verdict import Caveat, Verdict
from trueoracle.api import RelabelledLosses
from trueoracle.store import Store
from trueoracle.words.progress import Quiet


def test_the_losses_of_the_masks_that_were_drawn_are_those_of_the_study(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path))
    store = Store(finished.store_url)
    masks = study_masks(store, finished.plan.digest, [X], Y)[0]
    units = units_of(masks)
    assert isinstance(units, Units)
    assert not units.exhaustive
    ask = RelabelledLosses(store, finished.plan.digest, None, 1, Quiet())
    assert ask(masks, units.kept_nU) == pytest.approx(masks.x[X], rel=1e-5)
    kept = len(list(tmp_path.glob("spaces/*.npy")))
    assert kept == 1
    found = finished.analyze(options=Options(resamples=199))[0]
    assert isinstance(found.null, UnitNull)
    assert found.null.kind is NullKind.LOSS_FUNCTION
    assert Caveat.MODELLED not in found.caveats


def test_where_losses_are_not_to_be_had_a_model_stands_in_and_it_is_said() -> None:
    rng = np.random.default_rng(1)
    kept = drawn_kept(12, 60, rng)
    masks = cell(kept @ rng.normal(size=12), kept @ rng.normal(size=12), kept)

    def nothing(*_: object) -> np.ndarray:
        raise Unavailable("no data here")

    (found,) = analyze_cells([masks], [X], Options(resamples=199, losses=nothing))
    assert isinstance(found.null, UnitNull)
    assert found.null.kind is NullKind.MAIN_EFFECTS
    assert Caveat.MODELLED in found.caveats


def test_sixty_cells_of_a_perfect_predictor_predict_with_few_resamples() -> None:
    kept = np.array([[unit in five for unit in range(10)] for five in combinations(range(10), 5)])
    rng = np.random.default_rng(2)
    x = kept @ rng.normal(size=10)
    cells = [cell(x, -x, kept, group=str(place)) for place in range(60)]
    found = analyze_cells(cells, [X], Options(resamples=999))
    assert {one.verdict for one in found} == {Verdict.PREDICTS}
    assert isinstance(found[0].null, UnitNull)
    assert found[0].null.p_at_most
    assert found[0].null.relabellings == 1 + 4 * 60 / 0.05


def test_draws_stop_once_ten_are_as_extreme() -> None:
    rng = np.random.default_rng(3)
    kept = drawn_kept(12, 60, rng)
    x = rng.normal(size=60)
    found = unit_null(
        cell(x, rng.normal(size=60)), X, Units(sizes={"conv": 12}, kept_nU=kept), Draws(first=99, most=10_000), rng
    )
    assert isinstance(found, UnitNull)
    assert found.relabellings < 10_000
    assert not found.p_at_most
