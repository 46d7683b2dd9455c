from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.space.combinations import rank, subsets, unrank
from trueoracle.words.errors import SpecError
from trueoracle.words.spec import pruned_count


def space(*sites: tuple[str, int, int]) -> MaskSpace:
    return MaskSpace(tuple(SiteChoice(site=name, units=units, pruned=pruned) for name, units, pruned in sites))


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 9) for k in range(n + 1)])
def test_subsets_are_all_combinations_in_order_of_rank(n: int, k: int) -> None:
    found = list(subsets(n, k))
    assert set(found) == set(combinations(range(n), k))
    assert [rank(subset) for subset in found] == list(range(comb(n, k)))
    assert [unrank(index, n, k) for index in range(comb(n, k))] == found


def test_colexicographic_order_by_hand() -> None:
    assert list(subsets(4, 2)) == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def test_enumeration_agrees_with_unrank_over_several_sites() -> None:
    masks = space(("a", 4, 2), ("b", 3, 1), ("c", 5, 4))
    found = list(masks)
    assert len(found) == masks.count == 6 * 3 * 5
    assert found == [masks.unrank(place) for place in range(masks.count)]
    assert [masks.rank(mask) for mask in found] == list(range(masks.count))


@given(st.integers(min_value=0))
def test_rank_and_unrank_are_inverse_in_a_space_beyond_counting(number: int) -> None:
    masks = space(*((f"layer{i}", 64, 32) for i in range(8)))
    assert masks.count > 10**140
    place = number % masks.count
    assert masks.rank(masks.unrank(place)) == place


def test_a_draw_is_distinct_sorted_seeded_and_cheap_in_a_huge_space() -> None:
    masks = space(*((f"layer{i}", 512, 256) for i in range(16)))
    drawn = masks.draw(1000, seed=1)
    assert len(set(drawn)) == 1000
    assert list(drawn) == sorted(drawn)
    assert drawn[0] >= 0
    assert drawn[-1] < masks.count
    assert drawn == masks.draw(1000, seed=1) != masks.draw(1000, seed=2)


def test_a_draw_of_all_is_all() -> None:
    assert space(("a", 5, 2)).draw(10, seed=3) == tuple(range(10))


def test_draws_are_uniform_over_sets() -> None:
    # C(4, 2) = 6 masks, 2 drawn: 15 equally likely sets; chi-squared with 14 degrees, 99.9% point 36.1.
    masks = space(("a", 4, 2))
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(3000):
        drawn = masks.draw(2, seed)
        counts[drawn] = counts.get(drawn, 0) + 1
    assert len(counts) == 15
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 36.1


def test_drawing_more_than_there_is_is_refused() -> None:
    with pytest.raises(SpecError, match="cannot draw 11 masks from a space of 10"):
        space(("a", 5, 2)).draw(11, seed=0)


@pytest.mark.parametrize(
    ("units", "ratio", "pruned"), [(10, 0.7, 7), (100, 0.29, 29), (10, 0.25, 2), (10, 0.99, 9), (64, 0.5, 32)]
)
def test_the_pruned_count_is_the_floor_of_the_written_decimal(units: int, ratio: float, pruned: int) -> None:
    assert pruned_count(units, ratio) == pruned


def test_a_ratio_that_prunes_nothing_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"ratio 0.05 prunes nothing of `conv1`: floor\(10 x 0.05\) = 0"):
        SiteChoice.at_ratio("conv1", 10, 0.05)
