"""Masks of single weights: how they are drawn, named, written and put on a network; and what is refused in one line."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from test_cli import call
from trueoracle.nets import build, kept_weights, layers_called, mask_weights, unmasked, weight_shapes
from trueoracle.search import row_by_row, row_evaluations
from trueoracle.space import WeightSpace, at_pattern, at_ratio
from trueoracle.space.weights import MOST_COUNTED
from trueoracle.study import plan
from trueoracle.words.errors import ModelError, SpecError
from trueoracle.words.mask import WeightGroup, WeightMask, read_mask
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import StudySpec, parse_spec

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
RECIPE = {"optimiser": "sgd", "lr": 0.01, "epochs": 1, "batch_size": 64}


def study(*cells: dict[str, object], **more: object) -> StudySpec:
    facts = {
        "name": "own",
        "model": "lenet5-mini",
        "data": "digits",
        "train": RECIPE,
        "retrain": RECIPE,
        "repeats": 1,
        "final": "last",
    }
    return parse_spec({**facts, "cells": list(cells), **more}, "own")


def gone(mask: WeightMask) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.concatenate([*mask.gone_by_site.values()])


class Odd(nn.Module):
    """A grouped and a transposed convolution, one of sequences, a shared matrix and a normalised one."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, (1, 2), groups=2)
        self.up = nn.ConvTranspose2d(6, 3, 2)
        self.line = nn.Conv1d(2, 3, 3)
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.one.weight
        self.normalised = weight_norm(nn.Linear(4, 4))


def test_layers_are_known_by_their_weights_inputs_last() -> None:
    assert weight_shapes(Odd()) == {"grouped": (6, 1, 2, 2), "up": (3, 2, 2, 6), "line": (3, 3, 2)}
    assert weight_shapes(nn.Sequential(nn.Embedding(5, 2), nn.LSTM(2, 2), nn.BatchNorm1d(2))) == {}


def test_masks_at_a_ratio_are_drawn_uniformly() -> None:
    space = WeightSpace((at_ratio("a", {"a": (2, 3)}, 0.5),))
    assert space.count == comb(6, 3) == 20
    found = Counter(gone(space.unrank(space.draw(1, seed)[0])).tobytes() for seed in range(4000))
    assert len(found) == 20
    assert max(abs(count - 200) for count in found.values()) < 5 * 200**0.5
    assert all(np.frombuffer(mask, np.bool_).sum() == 3 for mask in found)


def test_masks_of_a_pattern_are_drawn_uniformly_row_by_row() -> None:
    space = WeightSpace((at_pattern("a", {"a": (1, 8)}, 1, 4),))
    assert space.count == 16
    found = Counter(gone(space.unrank(space.draw(1, seed)[0])).tobytes() for seed in range(3200))
    assert len(found) == 16
    assert max(abs(count - 200) for count in found.values()) < 5 * 200**0.5
    assert all((np.frombuffer(mask, np.bool_).reshape(2, 4).sum(1) == 3).all() for mask in found)


def test_every_mask_is_listed_once_and_drawing_all_draws_them() -> None:
    space = WeightSpace((at_pattern("a", {"a": (2, 4)}, 2, 4), at_ratio("b", {"b": (1, 3)}, 0.34)))
    every = space.every()
    assert len(set(every)) == len(every) == space.count == 6 * 6 * 3
    assert space.draw(space.count, 1) == every
    by_hand = {
        tuple(sorted((*first, *(4 + i for i in second), 8 + third)))
        for first in combinations(range(4), 2) for second in combinations(range(4), 2) for third in range(3)
    }  # fmt: skip
    assert {tuple(np.flatnonzero(gone(space.unrank(name))).tolist()) for name in every} == by_hand


def test_draws_are_repeated_by_their_seed_and_distinct() -> None:
    space = WeightSpace((at_ratio("a", {"a": (10, 10)}, 0.9),))
    names = space.draw(50, 3)
    assert len(set(names)) == 50
    assert list(names) == sorted(names)
    assert all(len(str(name)) == 19 and name < 2**63 for name in names)
    assert WeightSpace(space.sites).draw(50, 3) == names
    assert not set(space.draw(50, 4)) & set(names)
    with pytest.raises(SpecError, match="cannot draw 21 masks from a space of 20"):
        WeightSpace((at_ratio("a", {"a": (2, 3)}, 0.5),)).draw(21, 0)


def test_names_and_draws_are_the_same_everywhere() -> None:
    space = WeightSpace((at_ratio("fc", {"fc": (2, 4)}, 0.5), at_pattern("conv", {"conv": (1, 2, 2, 4)}, 2, 4)))
    name = space.draw(1, 5)[0]
    assert json.loads(space.unrank(name).pruned_json) == {
        "fc": {"layers": {"fc": [2, 4]}, "row": 8, "kept": 4, "pruned": "HQ=="},
        "conv": {"layers": {"conv": [1, 2, 2, 4]}, "row": 4, "kept": 2, "pruned": "mZU="},
    }
    assert name == 8555448117561082442


def test_a_mask_is_read_back_from_what_tables_hold_and_its_name_says_all_of_it() -> None:
    group = WeightGroup(site="fc", layers=(("fc", (3, 3)),), row=9, kept=5)
    mask = WeightMask(groups=(group,), bits=(np.packbits([1, 0, 0, 1, 0, 1, 0, 0, 1]).tobytes(),))
    again = read_mask(mask.pruned_json)
    assert again == mask
    assert isinstance(again, WeightMask)
    assert again.rank == mask.rank
    assert again.kept_by_layer == {"fc": (9, 5)}
    others = [
        WeightMask(groups=mask.groups, bits=(np.packbits([1, 0, 0, 1, 0, 1, 0, 1, 0]).tobytes(),)),
        WeightMask(groups=mask.groups, bits=mask.bits, criterion="magnitude"),
        WeightMask(groups=(WeightGroup(site="fc", layers=(("fc", (9, 1)),), row=9, kept=5),), bits=mask.bits),
    ]
    assert len({mask.rank, *(other.rank for other in others)}) == 4
    assert read_mask('{"conv1": [0, 3]}') == {"conv1": [0, 3]}
    for broken in (
        "[]",
        '{"a": {"row": 3}}',
        mask.pruned_json.replace('"layers": {"fc": [3, 3]}', '"layers": {"fc": [9, 9]}'),
    ):
        with pytest.raises(ValueError, match="mask"):
            read_mask(broken)


def test_spaces_beyond_counting_are_counted_as_that() -> None:
    assert WeightSpace((at_ratio("a", {"a": (1000, 1000)}, 0.5),)).count == MOST_COUNTED
    with pytest.raises(SpecError, match="more than 20,000 masks of weights: say how many to `draw`"):
        WeightSpace((at_ratio("a", {"a": (5, 5)}, 0.5),)).every()


def test_the_best_by_a_score_are_kept_and_of_equal_ones_the_first() -> None:
    space = WeightSpace((at_pattern("a", {"a": (2, 4)}, 2, 4), at_ratio("b", {"b": (1, 4)}, 0.25)))
    scores = {"a": np.array([3.0, 1, 2, 0, 5, 5, 5, 5]), "b": np.array([-1.0, -2, -2, 7])}
    assert space.best(scores).gone_by_site["a"].tolist() == [False, True, False, True, False, False, True, True]
    assert space.best(scores).gone_by_site["b"].tolist() == [False, False, True, False]


def test_a_pattern_runs_along_the_input_channels() -> None:
    net = nn.Sequential(nn.Conv2d(4, 3, 2), nn.ConvTranspose2d(8, 2, 3))
    shapes = weight_shapes(net)
    space = WeightSpace((at_pattern("0", {"0": shapes["0"]}, 2, 4), at_pattern("1", {"1": shapes["1"]}, 1, 8)))
    masked = mask_weights(net, space.unrank(space.draw(1, 0)[0]))
    assert ((masked[0].weight != 0).sum(1) == 2).all()
    assert ((masked[1].weight != 0).sum(0) == 1).all()


def test_pruned_weights_are_zero_to_the_bit_and_the_others_untouched() -> None:
    net = Odd()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter))
    shapes = weight_shapes(net)
    space = WeightSpace((at_ratio("*", shapes, 0.6),))
    mask = space.unrank(space.draw(1, 0)[0])
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    masked = mask_weights(net, mask)
    kept = kept_weights(masked)
    assert kept.keys() == {f"{layer}.weight" for layer in shapes}
    for name, parameter in masked.named_parameters():
        held = ~kept[name] if name in kept else torch.zeros_like(parameter, dtype=torch.bool)
        assert (parameter[held].view(torch.int32) == 0).all()
        assert torch.equal(parameter[~held], before[name][~held])
        assert torch.equal(net.get_parameter(name), before[name])
    assert sum(int((~of_layer).sum()) for of_layer in kept.values()) == mask.groups[0].pruned
    assert kept_weights(unmasked(masked)) == {}
    assert unmasked(masked).state_dict().keys() == net.state_dict().keys()


def test_a_group_pools_its_layers_and_a_glob_alone_does_not() -> None:
    pooled, each = plan(
        study({"weights": {"*": 0.5}, "pooled": True, "draw": 1}, {"weights": {"*": 0.5}, "draw": 1})
    ).cells
    sizes = {"conv1": 250, "conv2": 2500, "conv3": 2500, "fc1": 100, "fc2": 100}
    assert [(group.site, group.units) for group in pooled.of_weights.sites] == [("*", 5450)]
    assert [(group.site, group.units) for group in each.of_weights.sites] == [*sizes.items()]
    whole = each.space.unrank(each.ranks[0])
    assert isinstance(whole, WeightMask)
    assert whole.kept_by_layer == {layer: (size, size // 2) for layer, size in sizes.items()}


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"weights": {"conv2": "2:4"}}, "the pattern 2:4 does not divide `conv2`: it has 10 inputs, no multiple of 4"),
        ({"weights": {"conv*": "1:2"}}, "the pattern 1:2 does not divide `conv1`: it has 1 input, no multiple of 2"),
        ({"weights": {"fc1": 0.001}}, r"ratio 0.001 prunes no weight of `fc1`: floor\(100 x 0.001\) = 0; the smallest useful ratio is 0.01"),
        ({"weights": {"fc3": 0.5}}, "no layer with weights of its own is called `fc3`: known are conv1, conv2, conv3, fc1, fc2"),
        ({"weights": {"fc1": 0.5, "fc*": 0.4}}, "the weights of `fc1` are chosen twice: by `fc1` and by `fc\\*`"),
        ({"weights": {"fc1": 0.5}, "criteria": ["snap"]}, "unknown criterion of weights `snap`: did you mean `snip`"),
        ({"weights": {"fc1": 0.5}}, "say how many to `draw`"),
    ],
)  # fmt: skip
def test_what_a_network_cannot_take_is_told_with_the_cell(cell: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=f"cell `weights-.*` of study `own`: .*{words}"):
        plan(study({"draw": 2, **cell} if "draw" not in words else cell))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"weights": {"fc1": 1.0}}, r"the ratio of `fc1` must lie in \(0, 1\), but got 1"),
        ({"weights": {"fc1": 124}}, "but got 124; a pattern such as 2:4 is text and stands in quotes"),
        ({"weights": {"fc1": "4:2"}}, r"N of every M weights stay \(0 < N < M\), but got `4:2`"),
        ({"weights": {"fc1": "half"}}, "but got `half`"),
        ({"weights": {"fc1": 0.5}, "prune": {"conv1": 0.5}}, "either units, by `prune`, or single weights, by `weights`"),
        ({"draw": 3}, "either units, by `prune`, or single weights, by `weights`"),
        ({"weights": {"fc1": "2:4"}, "pooled": True}, "`pooled` is for ratios"),
        ({"weights": {"fc1": 0.5}, "masks": [0]}, "`masks` is for masks of units"),
        ({"weights": {"fc1": 0.5}, "draw": 3, "tail": {"masks": 1, "of": 9}}, "`tail` is for masks of units"),
        ({"prune": {"conv1": 0.5}, "criteria": ["snip"]}, "`criteria` is for masks of `weights`"),
        ({"prune": {"conv1": 0.5}, "pooled": True}, "`pooled` is for masks of `weights`"),
        ({"weights": {"fc1": 0.5}, "criteria": ["snip", "snip"]}, "`criteria` names one twice"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_any_network(cell: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        study(cell)


def test_adapters_do_not_go_with_masks_of_weights() -> None:
    lora = {**RECIPE, "lora": {"rank": 2, "alpha": 2, "targets": ["fc1"]}}
    with pytest.raises(SpecError, match=r"`retrain.lora` adds to whole weights, which fills the zeros"):
        plan(study({"weights": {"fc1": 0.5}, "draw": 2}, retrain=lora))


def test_the_command_line_refuses_before_anything_is_stored(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(json.dumps(study({"weights": {"conv2": "2:4"}, "draw": 2}).facts()))
    with pytest.raises(SpecError, match="does not divide `conv2`"):
        call("run", str(tmp_path / "own.yaml"), "--store", f"sqlite:///{tmp_path / 's.db'}")


def test_studies_of_units_keep_their_identity_and_cells_their_names() -> None:
    assert study({"prune": {"conv1": 0.5}}).canonical().count("weights") == 0
    names = [
        study(cell).cells[0].name
        for cell in (
            {"weights": {"fc1": 0.5}},
            {"weights": {"fc1": 0.5, "fc2": "1:2"}},
            {"weights": {"*": 0.5}, "pooled": True},
        )
    ]
    assert names == ["weights-fc1-0.5", "weights-fc1-0.5+fc2-1:2", "pooled-weights-*-0.5"]


def test_a_network_without_such_a_layer_has_none() -> None:
    net = build("lenet5-mini", SHAPE)
    with pytest.raises(ModelError, match="known are conv1"):
        layers_called("nothing", weight_shapes(net))


def test_row_by_row_finds_the_best_mask_where_rows_do_not_depend_on_one_another() -> None:
    space = WeightSpace((at_pattern("a", {"a": (2, 4)}, 2, 4), at_pattern("b", {"b": (1, 3)}, 1, 3)))
    cost = np.random.default_rng(0).normal(size=11)
    asked: list[WeightMask] = []

    def judge(masks: Sequence[WeightMask]) -> NDArray[np.float64]:
        asked.extend(masks)
        return np.array([cost[gone(mask)].sum() for mask in masks])

    found = row_by_row(space, judge)
    assert len(asked) == row_evaluations(space) == 6 + 6 + 3
    assert judge([found])[0] == min(judge([space.unrank(name)])[0] for name in space.every())
    assert found.criterion == "rows"
    assert found in asked[12:15]


def test_row_by_row_goes_on_from_the_patterns_it_chose() -> None:
    """A loss in which the rows depend on one another: what the first row keeps, the second must not."""
    space = WeightSpace((at_pattern("a", {"a": (2, 2)}, 1, 2),))

    def judge(masks: Sequence[WeightMask]) -> NDArray[np.float64]:
        rows = [gone(mask).reshape(2, 2) for mask in masks]
        return np.array(
            [float(row[0, 0]) + 2 * float((row[0] == row[1]).all()) + (np.nan if row[1].all() else 0) for row in rows]
        )

    assert gone(row_by_row(space, judge)).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"weights": {"fc1": "1:2"}, "search": {"evaluations": 99, "method": "rows"}}, "search `rows` takes 100 evaluations here, every pattern of every row, but `evaluations` is 99"),
        ({"weights": {"fc1": 0.5}, "search": {"evaluations": 99, "method": "rows"}}, "takes more than 10\\^15 evaluations"),
        ({"weights": {"fc1": "1:2"}, "search": {"evaluations": 100}}, "search `swaps` looks among masks of units or for ratios of `pooled` weights; among masks of weights there is `rows`"),
        ({"weights": {"fc1": "1:2"}, "search": {"evaluations": 100, "method": "rows", "keep": 2}}, "finds one mask, but `keep` is 2"),
        ({"prune": {"conv1": 0.5}, "search": {"evaluations": 100, "method": "rows"}}, "unknown search `rows`"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused(cell: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        plan(study(cell))
