"""Choosing a mask: budgets, rungs, judging, the ladder, and one selection from end to end."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

from made_up import made_up_selection
from seen import check_names, check_width, contrasts
from trueoracle import api
from trueoracle.cli.options import ways_to_prune
from trueoracle.nets import build, find_sites
from trueoracle.report import write_selection_report
from trueoracle.selection.budget import Budget, Purse, parse_budget
from trueoracle.selection.candidates import agreed
from trueoracle.selection.foremost import foremost
from trueoracle.selection.judging import worth
from trueoracle.selection.ladder import Ladder, Wave, first_masks
from trueoracle.selection.limits import Limit, Limits, limit_of
from trueoracle.selection.rungs import rung_epochs, shortened
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import SpecError
from trueoracle.words.progress import Quiet
from trueoracle.words.selection import Selected
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe, pruned_count, ratio_of
from trueoracle.words.trial import Figures, Outcome, SplitAnswers, Trial


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
    assert [rung_epochs(epochs) for epochs in (27, 20, 8, 2)] == [(3, 9, 27), (6, 20), (8,), (2,)]
    assert shortened(recipe, 6).milestones == (3, 4)
    assert shortened(recipe, 20) is recipe
    assert shortened(recipe.model_copy(update={"milestones": (15,)}), 1).schedule == "constant"


def test_a_budget_that_tells_nothing_apart_is_refused() -> None:
    assert first_masks(12, (1, 2, 8)) == 2
    with pytest.raises(SpecError, match="at least 12 are needed, for two masks of 1 and one of 2 and one of 8 epochs"):
        first_masks(11, (1, 2, 8))


def test_a_ladder_spends_no_more_than_it_has() -> None:
    chance = np.random.default_rng(0)
    for lengths in ((1, 2, 8), (2, 6, 20), (1, 3), (4,)):
        least = 2 * lengths[0] + sum(lengths[1:])
        for budget in (*range(least, least + 30), 100, 333):
            purse = Purse(budget=Budget(epochs=budget), threads=1, pace=lambda: 1.0)
            ladder = Ladder(lengths, purse, seed=0)
            ladder.tell(*trained(0, range(first_masks(budget, lengths)), 1, lengths, chance))
            for wave in ladder.waves():
                ladder.tell(*trained(wave.rung, [mask for _, mask in wave.masks], wave.repeats, lengths, chance))
            assert purse.epochs <= budget
            assert ladder.choice().chosen.rung == len(lengths) - 1


def trained(
    rung: int, masks: Iterable[int], repeats: int, lengths: Sequence[int], chance: np.random.Generator
) -> tuple[Wave, list[Trial]]:
    """A wave, and trials of it that tell nothing."""
    trials = []
    for mask, repeat in product(masks, range(repeats)):
        split = SplitAnswers.of(chance.random(50) < 0.8)
        figures = Figures(
            train_loss=0.5, train_accuracy=chance.random(), test_loss=0.5, test_accuracy=0.8, validation_loss=0.5,
            validation_accuracy=float(split.right.mean()),
        )  # fmt: skip
        trials.append(
            Trial(
                cell=0,
                mask=mask,
                repeat=repeat,
                seed=0,
                outcome=Outcome.FINISHED,
                curve=(figures,) * lengths[rung],
                final=figures,
                seconds=1.0,
                answers={"validation": split, "test": split},
            )
        )
    return Wave(
        rung=rung, masks=tuple((0, mask) for mask in dict.fromkeys(t.mask for t in trials)), repeats=repeats
    ), trials


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


def test_criteria_agree_by_sums_of_one_scale() -> None:
    """By hand: the variances of `a` are 1 in both sites, of `b` 4 and 12; so 1.4 and 4 are of one scale."""
    a = {"x": torch.tensor([1.0, 3.0]), "y": torch.tensor([0.0, 2.0])}
    b = {"x": torch.tensor([0.0, 4.0]), "y": torch.tensor([0.0, 48**0.5])}
    found = agreed([a, b])
    assert found["x"].tolist() == pytest.approx([1 / 2**0.5, 3 / 2**0.5 + 1])
    assert found["y"].tolist() == pytest.approx([0, 2**0.5 + 3**0.5])
    same = agreed([a, {"x": torch.ones(2), "y": torch.ones(2)}])  # who tells nothing apart changes no order
    assert (same["x"][1] - same["x"][0]).item() == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    "found",
    [
        made_up_selection([(0.8, 0.85, 0.93), (0.82, 0.84), *[(0.5 + at / 100,) for at in range(30)]]),
        made_up_selection([(0.5,)], rivals=(), study="", stopped=True),
    ],
)
def test_the_page_of_a_selection(found: Selected, tmp_path: Path, browser: Browser) -> None:
    path = tmp_path / "report.html"
    write_selection_report(found, path)
    for scheme in ("light", "dark"):
        page = browser.new_context(color_scheme=scheme).new_page()  # type: ignore[arg-type]
        page.goto(path.as_uri())
        check_names(page)
        for width in (320, 400, 1200):
            check_width(page, width)
        assert page.locator("#rungs .winner path").count() == 1
        assert page.locator("#rungs .chosen-curve").count() == (len(found.chosen.seen) > 1)
        assert page.locator("#against").count() == bool(found.rivals)
        assert min(contrasts(page, (".verdict", "color"), ("#rungs text.tick", "fill"))) >= 4.5
        page.context.close()


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


LENET = InputShape(channels=1, height=32, width=32, classes=10)


@pytest.fixture(scope="module")
def limits() -> Callable[[int], Limits]:
    net = build("lenet5-mini", LENET)
    sites = find_sites(net, LENET)
    return lambda round_to: Limits(net=net, shape=LENET, sites=sites, round_to=round_to)


def test_a_ratio_says_how_many_units_go() -> None:
    for units in range(2, 130):
        assert [pruned_count(units, ratio_of(pruned, units)) for pruned in range(1, units)] == [*range(1, units)]
    assert ratio_of(5, 10) == 0.5
    assert ratio_of(1, 3) == 0.4


@pytest.mark.parametrize("what", ["macs", "parameters"])
def test_ways_just_meet_a_limit(limits: Callable[[int], Limits], what: str) -> None:
    asked = Limit(what=what, share=0.5)
    ways = limits(1).found(["conv*"], asked)
    assert len(ways) == 3
    for way in ways:
        assert limits(1).share(way, what) <= 0.5
        strongest = max(way, key=way.__getitem__)
        spared = {**way, strongest: round(way[strongest] - 0.1, 1)}
        assert limits(1).share({site: ratio for site, ratio in spared.items() if ratio > 0}, what) > 0.5 - 0.2
    for way in limits(4).found(["*"], asked):
        assert {10 - pruned_count(10, ratio) for site, ratio in way.items() if site.startswith("conv")} <= {4, 8}


def test_given_ways_compete_where_they_meet_the_limit_and_spare_most(limits: Callable[[int], Limits]) -> None:
    given = [{"conv1": a, "conv2": b} for a in (0.2, 0.5, 0.8) for b in (0.2, 0.5, 0.8)]
    found = limits(1).among(given, Limit(what="macs", share=0.5))
    assert found == [{"conv1": 0.2, "conv2": 0.8}, {"conv1": 0.5, "conv2": 0.2}]
    assert limits(4).rounded({"conv1": 0.5}) == {"conv1": 0.6}


def test_limits_that_cannot_be_met_are_refused_in_a_line(limits: Callable[[int], Limits]) -> None:
    with pytest.raises(
        SpecError, match=r"no mask leaves at most 0.01 of the operations: .* as far as they go leaves 0\.\d+$"
    ):
        limits(1).found(["*"], Limit(what="macs", share=0.01))
    with pytest.raises(
        SpecError, match=r"no way to prune that is given leaves at most 0.5 .* the nearest leaves 0.997"
    ):
        limits(1).among([{"conv3": 0.5}], Limit(what="macs", share=0.5))
    with pytest.raises(SpecError, match="none can go if a multiple of 10 is to stay"):
        limits(10).rounded({"conv1": 0.5})
    with pytest.raises(SpecError, match="`macs` and `latency` are two limits"):
        limit_of(macs=0.5, parameters=None, latency=0.5)
    with pytest.raises(SpecError, match=r"`macs` must be a share .* but got 1.5"):
        limit_of(macs=1.5)
    with pytest.raises(SpecError, match="`round_to` must be at least 1, but got 0"):
        limits(0)


def test_ratios_that_compete_are_said_in_one_option() -> None:
    assert ways_to_prune(["a=0.3,0.5", "b=0.2"]) == [{"a": 0.3, "b": 0.2}, {"a": 0.5, "b": 0.2}]
    assert ways_to_prune(["a", "b*"]) == ["a", "b*"]
    assert ways_to_prune([]) == []
    with pytest.raises(SpecError, match="`--prune a` has no ratio, but others have"):
        ways_to_prune(["a", "b=0.2"])
    with pytest.raises(SpecError, match="SITE=RATIO"):
        ways_to_prune(["a=0.3,x"])
