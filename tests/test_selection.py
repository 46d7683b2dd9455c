"""Choosing a mask: budgets, rungs, judging, the ladder, and one selection from end to end."""

from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
import torch

from trueoracle import api
from trueoracle.selection.budget import parse_budget
from trueoracle.selection.foremost import foremost
from trueoracle.selection.judging import worth
from trueoracle.selection.ladder import first_masks
from trueoracle.selection.rungs import rung_epochs, shortened
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.store import Store
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.spec import Recipe


def test_budgets() -> None:
    assert parse_budget("200-epochs").epochs == 200
    assert parse_budget("30m").seconds == 1800
    assert parse_budget("2h").seconds == 7200
    with pytest.raises(SpecError, match="must be like 200-epochs"):
        parse_budget("30")
    with pytest.raises(SpecError, match="buys nothing"):
        parse_budget("0m")


def test_rungs_have_the_whole_schedule() -> None:
    recipe = Recipe(optimiser="sgd", lr=0.1, epochs=20, batch_size=8, schedule="step", milestones=(10, 15))
    assert rung_epochs(20) == (2, 6, 20)
    assert shortened(recipe, 6).milestones == (3, 4)
    assert shortened(recipe, 20) is recipe
    assert shortened(recipe.model_copy(update={"milestones": (15,)}), 1).schedule == "constant"


def test_a_budget_that_tells_nothing_apart_is_refused() -> None:
    assert first_masks(10, (1, 2, 8)) == 2
    with pytest.raises(SpecError, match="at least 10 are needed"):
        first_masks(9, (1, 2, 8))


def test_judgement_is_shrunk_where_images_decide() -> None:
    """Masks that are all alike look different on few images; masks that differ are seen to."""
    chance = np.random.default_rng(0)

    def kept_of_spread(accuracy_M: np.ndarray) -> float:
        right_MI = (chance.random((40, 200)) < accuracy_M[:, None]).astype(float)
        found = worth(right_MI, np.zeros((40, 2)), np.zeros(40))
        return float(found.mean_M.std() / right_MI.mean(1).std())

    assert kept_of_spread(np.full(40, 0.9)) < 0.6
    assert kept_of_spread(np.linspace(0.5, 0.95, 40)) > 0.75  # a fifth of the belief is older than these masks


def test_masks_come_in_order_of_importance() -> None:
    space = MaskSpace((SiteChoice(site="a", units=5, pruned=2), SiteChoice(site="b", units=4, pruned=1)))
    importance = {"a": torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0]), "b": torch.tensor([2.0, 7.0, 1.0, 8.0])}
    found = list(islice(foremost(space, importance), 100))
    totals = [sum(float(importance[part.site][list(part.kept)].sum()) for part in space.unrank(r).sites) for r in found]
    assert sorted(found) == list(range(space.count))
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == max(sum(c) for c in combinations([3.0, 1.0, 4.0, 1.5, 9.0], 3)) + 17.0


def test_a_selection_goes_on_and_is_exported_from(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 's.db'}"

    def run() -> api.Selection:
        return api.select(
            study="quickstart", scale="tiny", budget="20-epochs", name="mine", store=store, threads=1, progress=Quiet()
        )

    first, again = run().selected, run().selected
    assert first == again
    assert first.study == "mine"
    assert first.spent <= 20
    assert {one.name for one in first.rivals} >= {"lowest pruned train loss", "L1", "random"}
    trials = api.Study.stored("mine", store=store).trials()
    assert list(trials["mask"].unique()) == [first.chosen.mask]
    assert trials["final_test_accuracy"].mean() == pytest.approx(first.test.value, abs=1e-12)
    assert {record.name for record in Store(store).studies()} >= {"mine", "mine-1", "mine-2", "mine-rivals"}


def test_nothing_is_made_for_bad_input(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 's.db'}"
    with pytest.raises(SpecError, match="too few to choose"):
        api.select(study="quickstart", scale="tiny", budget="3-epochs", store=store, progress=Quiet())
    with pytest.raises(SpecError, match="no validation images"):
        api.select(
            study="quickstart", scale="tiny", budget="20-epochs", store=store, progress=Quiet(),
            set={"validation_images": None, "final": "last"},
        )  # fmt: skip
    with pytest.raises(SpecError, match="must not look at test images"):
        api.select(study="quickstart", budget="20-epochs", store=store, set={"final": "best_on_test"}, progress=Quiet())
    assert not list(tmp_path.iterdir())
