"""Pictures drawn by hand: scales and ticks with numbers that can be checked by head, and words for numbers."""

import numpy as np
import pytest

from trueoracle.analysis import Absent
from trueoracle.analysis.metric import metric
from trueoracle.analysis.result import Interval
from trueoracle.report import drawing
from trueoracle.report.drawing import Scale
from trueoracle.report.wording import difference, duration, interval, number, probability, share, signed


def test_a_scale_maps_its_ends_to_its_ends() -> None:
    assert Scale(low=2, high=4, start=100, end=0)([2, 3, 4]).tolist() == [100, 50, 0]
    assert Scale(low=1, high=100, start=0, end=10, log=True)([1, 10, 100]).tolist() == [0, 5, 10]


def test_ticks_are_round_and_told_apart() -> None:
    scale = Scale(low=0.96, high=0.986, start=0, end=1)
    assert scale.labels(scale.ticks()) == ["0.960", "0.965", "0.970", "0.975", "0.980", "0.985"]
    below = Scale(low=-0.3, high=0.3, start=0, end=1)
    assert below.labels(below.ticks(3)) == ["−0.2", "0.0", "0.2"]  # noqa: RUF001 - a true minus
    epochs = Scale(low=0, high=2, start=0, end=1, whole=True)
    assert epochs.labels(epochs.ticks()) == ["0", "1", "2"]
    decades = Scale(low=0.01, high=1, start=0, end=1, log=True)
    assert [tick for tick in decades.ticks() if tick in (0.01, 0.1, 1)] == [0.01, 0.1, 1]


def test_a_scale_around_equal_values_still_has_a_width() -> None:
    scale = Scale.around([0.5, 0.5, np.nan], 0, 10)
    assert scale.at(0.5) == pytest.approx(5)


def test_points_are_short_paths() -> None:
    assert (
        drawing.dots(np.array([1.0, 2.25]), np.array([3.0, 4.0]), "k") == '<g class="k"><path d="M1 3h0M2.2 4h0"/></g>'
    )
    many = drawing.dots(np.zeros(1000), np.zeros(1000), "k")
    assert many.count("<path") == 3
    assert many.count("M0 0h0") == 1000


def test_points_in_one_place_are_one_square_and_the_deepest_where_most_lie() -> None:
    squares = drawing.density(np.array([1.0, 2, 3, 11]), np.array([5.0, 5, 6, 5]), "k", 10)
    assert squares.count("<rect") == 2
    assert 'x="0" y="0" width="10" height="10" fill-opacity="1.00"' in squares
    assert 'x="10" y="0" width="10" height="10" fill-opacity="0.64"' in squares
    assert drawing.density(np.array([]), np.array([]), "k", 10) == '<g class="k"></g>'


def test_a_line_is_broken_where_there_is_no_number() -> None:
    path = drawing.curve(np.array([0.0, 1, 2, 3]), np.array([5.0, np.nan, 6, 7]), "k")
    assert 'd="M0 5M2 6L3 7"' in path


def test_words_are_escaped() -> None:
    assert "&lt;b&gt;" in drawing.text(0, 0, "<b>")
    assert "&#34;" in drawing.picture(1, 1, 'a "quoted" title', [])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (signed(-0.346), "−0.35"),  # noqa: RUF001 - a true minus
        (signed(-0.001), "0.00"),
        (interval(Interval(low=-0.4, high=0.2)), "[−0.40, 0.20]"),  # noqa: RUF001 - a true minus
        (interval(Absent(why="no")), "–"),  # noqa: RUF001 - a dash
        (probability(0.0432), "0.043"),
        (probability(8.3e-5), "8.3e−5"),  # noqa: RUF001 - a true minus
        (probability(0.0), "<1e−15"),  # noqa: RUF001 - a true minus
        (share(0.3214), "32.1 %"),
        (difference(0.0056, metric("final_test_accuracy")), "0.56 points"),
        (difference(0.0056, metric("final_test_loss")), "0.0056 nats"),
        (duration(90), "90 s"),
        (duration(7300), "2.0 h"),
    ],
)
def test_numbers_in_words(said: str, words: str) -> None:
    assert said == words


def test_counts_are_told_in_full_or_by_their_size() -> None:
    assert number(16_003_008) == "16,003,008"
    assert number(999_999_999_999_999) == "999,999,999,999,999"
    assert number(4 * 10**30) == "4.0e30"
    assert number(25 * 10**11_109) == "2.5e11110"
