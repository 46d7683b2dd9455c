"""Searches, on tables of losses: one contract for all, whatever they do in between."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trueoracle.search import SEARCHES, Ask, Budget, Found, Hunt, Judged, Memory, search
from trueoracle.search.moves import Swaps
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import SpecError, StoreError

SPACE = MaskSpace((SiteChoice(site="a", units=5, pruned=2), SiteChoice(site="b", units=6, pruned=3)))
IMAGES = 100
ENDLESS = ("swaps", "draws", "sitewise", "annealing", "evolution", "cross-entropy")
WITH_BUDGET = (*ENDLESS, "greedy-backward", "greedy-forward")


class Table:
    """Losses made up for every mask and image of any space over the sites a and b; it counts what it is asked."""

    def __init__(self, *, rugged: float = 1.0, stop_after: int | None = None, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.worth = {"a": random.random(5), "b": random.random(6)}
        self.rugged, self.left, self.seed = rugged, stop_after, seed
        self.asked: Counter[tuple[MaskSpace, int, int]] = Counter()

    def losses(self, space: MaskSpace, rank: int) -> np.ndarray:
        """The loss of each image: what the units were worth, and something of the mask's own."""
        mask = space.unrank(rank)
        lost = sum(self.worth[part.site][list(part.pruned)].sum() for part in mask.sites)
        own = np.random.default_rng([self.seed, len(mask.sites), rank]).random(IMAGES)
        return lost + self.rugged * own.mean() + 0.1 * own

    def __call__(self, ask: Ask) -> Judged:
        assert list(ask.ranks) == sorted(set(ask.ranks)), "an evaluator is given rising ranks"
        if self.left is not None:
            self.left -= len(ask.ranks)
            if self.left < 0:
                raise KeyboardInterrupt
        for rank in ask.ranks:
            self.asked.update((ask.space, rank, image) for image in ask.images)
        loss_M = np.array(
            [self.losses(ask.space, rank)[ask.images.start : ask.images.stop].mean() for rank in ask.ranks]
        )
        return Judged(loss_M=loss_M, accuracy_M=1 / (1 + loss_M), standard_error_M=np.zeros(len(loss_M)))


def lowest(table: Table, space: MaskSpace = SPACE) -> int:
    return int(np.argmin([table.losses(space, rank).mean() for rank in range(space.count)]))


def some(name: str) -> int | None:
    """A budget that a search spends or needs."""
    return 60 if name in WITH_BUDGET else None


def killed(name: str) -> Table:
    """A table that is interrupted after so many answers."""
    return Table(stop_after=12 if name in WITH_BUDGET else 2000)


def found_by(name: str, table: Table, evaluations: int | None, seed: int = 0, listed: list[int] | None = None) -> Found:
    return search(Memory(table), SPACE, IMAGES, hunt(name, evaluations=evaluations, seed=seed), listed=listed)


def hunt(name: str, *, evaluations: int | None = None, core_seconds: float | None = None, **how: float) -> Hunt:
    return Hunt(method=name, budget=Budget(evaluations=evaluations, core_seconds=core_seconds), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SEARCHES)
def test_no_mask_is_judged_twice_on_an_image(name: str) -> None:
    table = Table()
    found = found_by(name, table, some(name))
    assert set(table.asked.values()) == {1}
    assert found.evaluations == pytest.approx(sum(table.asked.values()) / IMAGES)


@pytest.mark.parametrize("name", WITH_BUDGET)
@pytest.mark.parametrize("evaluations", [50, 77])
def test_the_budget_is_kept(name: str, evaluations: int) -> None:
    table = Table()
    found = found_by(name, table, evaluations)
    assert sum(table.asked.values()) <= evaluations * IMAGES
    if name in ENDLESS:
        assert found.evaluations == evaluations == len(found.ranks)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_seed_decides_everything(name: str) -> None:
    one, same, other = (found_by(name, Table(), some(name), seed) for seed in (3, 3, 4))
    assert (one.ranks, one.ends, one.loss_M.tolist()) == (same.ranks, same.ends, same.loss_M.tolist())
    if name in ENDLESS:
        assert one.ranks != other.ranks


@pytest.mark.parametrize("name", SEARCHES)
def test_a_killed_search_goes_on_as_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    keep, wanted = tmp_path / "losses.jsonl", hunt(name, evaluations=some(name))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(Memory(killed(name), keep, "x", at_once=8), SPACE, IMAGES, wanted)
        keep.write_text(keep.read_text() + '{"space": [["a"')  # as a kill in the midst of a line leaves it
    table = Table()
    resumed = search(Memory(table, keep, "x"), SPACE, IMAGES, wanted)
    undisturbed = found_by(name, Table(), some(name))
    assert (resumed.ranks, resumed.ends) == (undisturbed.ranks, undisturbed.ends)
    assert resumed.evaluations == undisturbed.evaluations
    assert sum(table.asked.values()) < undisturbed.evaluations * IMAGES - 1000


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("seed", range(3))
def test_a_small_space_is_searched_whole_and_its_minimum_found(name: str, seed: int) -> None:
    table = Table(seed=seed, rugged=5.0)
    found = found_by(name, table, 10**6, seed)
    assert found.exact
    assert found.best == lowest(table)
    assert len(found.ranks) == SPACE.count


@pytest.mark.parametrize("name", ["greedy-backward", "greedy-forward"])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_finds_the_minimum_where_losses_add_up(name: str, seed: int) -> None:
    table = Table(rugged=0.0, seed=seed)
    table.losses = lambda space, rank: (
        Table.losses(table, space, rank).round(0) * 0
        + sum(  # type: ignore[method-assign]
            table.worth[part.site][list(part.pruned)].sum() for part in space.unrank(rank).sites
        )
    )
    found = found_by(name, table, None)
    assert found.best == lowest(table)
    assert not found.exact


@pytest.mark.parametrize("seed", range(5))
def test_a_race_finds_the_lowest_of_all_for_less(seed: int) -> None:
    table = Table(seed=seed)
    found = found_by("race", table, None, seed)
    assert found.best == lowest(table)
    assert found.evaluations < SPACE.count
    assert found.confidence in (0.95, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_race_learns_from_a_few_masks_what_chance_in_the_images_does(seed: int) -> None:
    """Images differ far more than masks do, but alike for all masks that lack a unit: most of that is no noise to a race."""
    space, images = MaskSpace((SiteChoice(site="a", units=12, pruned=6),)), 1000
    random = np.random.default_rng(seed)
    kept_MU = np.array([[unit in mask.sites[0].kept for unit in range(12)] for mask in space], dtype=float)
    worth_UI = random.random((12, 1)) + 2 * random.standard_t(4, (12, images))
    loss_MI = 20 - kept_MU @ worth_UI + 0.5 * random.standard_t(4, (space.count, images))

    def judge(ask: Ask) -> Judged:
        loss_M = loss_MI[list(ask.ranks)][:, ask.images.start : ask.images.stop].mean(axis=1)
        return Judged(loss_M=loss_M, accuracy_M=0 * loss_M, standard_error_M=0 * loss_M)

    found = search(Memory(judge), space, images, hunt("race", seed=seed))
    assert found.best == int(loss_MI.mean(axis=1).argmin())
    assert found.evaluations < space.count / 2


def test_a_race_of_masks_that_hardly_differ_ends_exactly() -> None:
    class Close(Table):
        def losses(self, space: MaskSpace, rank: int) -> np.ndarray:  # noqa: ARG002
            own = np.random.default_rng(rank).random(IMAGES)
            return own - own.mean() + 1e-6 * rank

    found = found_by("race", Close(), None, listed=[3, 5, 8])
    assert found.exact
    assert found.best == 3
    assert found.evaluations == 3
    assert "exact: the lowest of all 3 drawn masks" in found.sentence


def test_a_race_drops_masks_whose_loss_is_no_number() -> None:
    class Broken(Table):
        def losses(self, space: MaskSpace, rank: int) -> np.ndarray:
            return np.full(IMAGES, np.nan) if rank % 2 else super().losses(space, rank)

    found = found_by("race", Broken(), None)
    assert found.best % 2 == 0
    assert np.isfinite(found.loss)


@pytest.mark.parametrize("name", ENDLESS)
def test_losses_that_are_no_numbers_are_never_the_lowest(name: str) -> None:
    class Broken(Table):
        def losses(self, space: MaskSpace, rank: int) -> np.ndarray:
            return np.full(IMAGES, np.nan) if rank % 3 else super().losses(space, rank)

    assert np.isfinite(found_by(name, Broken(), 150).loss)


def test_the_neighbours_are_all_masks_that_differ_by_one_swap() -> None:
    near = Swaps(SPACE, 77)
    kept = [set(part.kept) for part in SPACE.unrank(77).sites]
    assert len(set(near)) == len(near) == 3 * 2 + 3 * 3
    for rank in near:
        others = [set(part.kept) for part in SPACE.unrank(rank).sites]
        assert sorted(len(one - other) for one, other in zip(kept, others, strict=True)) == [0, 1]


def test_what_is_known_from_elsewhere_is_counted_but_not_judged_again() -> None:
    table, plain = Table(), Table()
    memory = Memory(table)
    ask = Ask(space=SPACE, ranks=range(SPACE.count), images=range(IMAGES))
    memory.learn(ask, plain(ask))
    found = search(memory, SPACE, IMAGES, hunt("swaps", evaluations=40))
    assert not table.asked
    assert found.ranks == found_by("swaps", Table(), 40).ranks


def test_a_loss_on_all_images_is_put_together_from_its_parts() -> None:
    table = Table()
    memory = Memory(table)
    for part in (range(10), range(10, 25)):
        memory(Ask(space=SPACE, ranks=[4], images=part))
    judged, _ = memory(Ask(space=SPACE, ranks=[4], images=range(IMAGES)))
    assert judged.loss_M[0] == pytest.approx(table.losses(SPACE, 4).mean(), rel=1e-12)
    assert set(table.asked.values()) == {1}


def test_core_seconds_end_a_search() -> None:
    found = search(Memory(Table()), SPACE, IMAGES, hunt("draws", core_seconds=1e-3))
    assert 0 < len(found.ranks) < SPACE.count


def test_the_result_says_what_it_is() -> None:
    found = found_by("swaps", Table(), 60)
    assert found.sentence.startswith("best found by `swaps` on 100 images: 60 evaluations; ")
    assert f"{len(found.ends)} runs ended, {found.ends.count(found.best)} in this mask" in found.sentence
    assert found.sentence.endswith(f"the second lies {found.gap:.4g} nats above")
    assert found_by("draws", Table(), 200).sentence.startswith("exact: the lowest of all 200 masks of the space")


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("swap", {}, "unknown search `swap`: did you mean `swaps`? known are annealing, "),
        ("swaps", {"evaluations": 0}, "`evaluations` must be at least 1, but got 0"),
        ("swaps", {"core_seconds": -1.0}, "`core_seconds` must be above 0, but got -1"),
        ("swaps", {}, "goes on until its budget is spent: say how many `evaluations`"),
        ("greedy-backward", {"evaluations": 20}, "takes up to 45 evaluations to its first mask here, but `evaluations` is 20"),
        ("swaps", {"evaluations": 9, "listed": [1, 2]}, "makes its masks itself"),
        ("race", {"evaluations": 5}, "search `race` spent its budget before it had a mask: give it more"),
        ("race", {"confidence": 1.0}, "`confidence` must lie in (0, 1), but got 1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(name: str, how: dict[str, object], message: str) -> None:
    listed = how.pop("listed", None)
    with pytest.raises(SpecError) as caught:
        search(Memory(Table()), SPACE, IMAGES, hunt(name, **how), listed=listed)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("race", "at most 50,000"), ("sitewise", "about 10^29: try `swaps`")])
def test_spaces_too_large_for_a_search_that_lists_masks(name: str, message: str) -> None:
    large = MaskSpace((SiteChoice(site="a", units=100, pruned=50),))
    with pytest.raises(SpecError, match=message.replace("^", r"\^")):
        search(Memory(Table()), large, IMAGES, hunt(name, evaluations=10))


@pytest.mark.parametrize("text", ["no json\n", '{"identity": "x"}\n{"space": 3}\n'])
def test_a_file_that_keeps_no_losses_is_refused(text: str, tmp_path: Path) -> None:
    keep = tmp_path / "losses.jsonl"
    keep.write_text(text)
    with pytest.raises(StoreError, match="cannot be read: remove the file to begin anew"):
        Memory(Table(), keep, "x")


def test_losses_of_another_search_are_refused(tmp_path: Path) -> None:
    keep = tmp_path / "losses.jsonl"
    Memory(Table(), keep, "x")
    with pytest.raises(StoreError, match="keeps the losses of another search"):
        Memory(Table(), keep, "y")


@pytest.mark.parametrize("name", ["swaps", "annealing", "evolution", "cross-entropy", "greedy-forward"])
def test_a_space_beyond_any_list_is_no_obstacle(name: str) -> None:
    large = MaskSpace((SiteChoice(site="a", units=200, pruned=197), SiteChoice(site="b", units=100, pruned=50)))

    def judge(ask: Ask) -> Judged:
        loss_M = np.array([sum(part.kept[0] for part in ask.space.unrank(rank).sites) for rank in ask.ranks], float)
        return Judged(loss_M=loss_M, accuracy_M=0 * loss_M, standard_error_M=0 * loss_M)

    needed = SEARCHES[name].needs(large)
    found = search(Memory(judge), large, 10, hunt(name, evaluations=max(60, needed)))
    assert found.best in range(large.count)
