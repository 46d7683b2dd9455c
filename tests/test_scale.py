"""One study at three scales: the changes stand in its file, its name and its identity follow from them."""

from pathlib import Path

import pytest
import yaml

from trueoracle import Study
from trueoracle.study import at_scale, builtin_studies, load_spec
from trueoracle.words.errors import SpecError

FACTS = {
    "name": "mine",
    "model": "lenet5-mini",
    "data": "digits",
    "train": {"optimiser": "sgd", "lr": 0.02, "batch_size": 64, "epochs": 20},
    "retrain": {"optimiser": "sgd", "lr": 0.002, "batch_size": 64, "epochs": 10},
    "cells": [{"prune": {"conv1": 0.5}}, {"prune": {"conv2": 0.5}}],
    "repeats": 3,
    "final": "last",
    "scales": {"tiny": {"retrain.epochs": 1, "cells.*.draw": 4}},
}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(FACTS))
    return str(path)


def test_a_scale_makes_the_changes_that_stand_under_it(mine: str) -> None:
    tiny = load_spec(mine, scale="tiny")
    assert (tiny.name, tiny.scale.value) == ("mine-tiny", "tiny")
    assert (tiny.retrain.epochs, [cell.draw for cell in tiny.cells]) == (1, [4, 4])
    assert (tiny.train.epochs, tiny.repeats) == (20, 3)  # type: ignore[union-attr]


def test_the_identity_is_that_of_what_it_changes(mine: str) -> None:
    by_hand = load_spec(mine, {"retrain.epochs": 1, "cells.*.draw": 4})
    assert load_spec(mine, scale="tiny").digest() == by_hand.digest() != load_spec(mine).digest()
    assert load_spec(mine, scale="paper") == load_spec(mine)


def test_changes_come_after_the_scale(mine: str) -> None:
    assert Study(mine, scale="tiny", set={"retrain.epochs": 2}).spec.retrain.epochs == 2


def test_every_built_in_study_knows_both_scales_and_shrinks() -> None:
    for name, spec in builtin_studies().items():
        tiny, small = (load_spec(name, scale=scale) for scale in ("tiny", "small"))
        assert len({tiny.digest(), small.digest(), spec.digest()}) == 3
        for shrunk in (tiny, small):
            assert shrunk.retrain.epochs <= spec.retrain.epochs
            assert shrunk.repeats <= spec.repeats
            assert all(
                cell.draw and cell.draw <= (whole.draw or 252)
                for cell, whole in zip(shrunk.cells, spec.cells, strict=True)
            )
        assert tiny.scale.caveat.startswith("This is the study at scale tiny")
        assert spec.scale.caveat == ""


def test_a_cell_of_a_scaled_study() -> None:
    spec = load_spec("lenet5-mini-mnist-conv2-0.3", scale="tiny")
    assert spec.name == "lenet5-mini-mnist-tiny-conv2-0.3"
    assert [(cell.prune, cell.draw) for cell in spec.cells] == [({"conv2": 0.3}, 4)]


@pytest.mark.parametrize(
    ("facts", "scale", "message"),
    [
        ({}, "large", "unknown scale `large`: known are paper, small, tiny"),
        ({}, "small", "mine does not say what scale `small` is: write its changes under `scales.small`"),
        ({"scales": {"tinny": {}}}, "paper", "mine: unknown scale `tinny`: did you mean `tiny`"),
        ({"scales": [1]}, "paper", r"mine: `scales` must hold changes \(path: value\) under tiny and small"),
        ({"scales": {"tiny": {"cells.7.draw": 1}}}, "tiny", "cannot set `cells.7.draw`"),
    ],
)
def test_a_scale_that_is_not_there_is_one_clear_line(facts: dict[str, object], scale: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        at_scale({**FACTS, **facts}, scale, "mine")
