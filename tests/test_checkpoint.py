"""A training that is cut off anywhere goes on where it was, and ends with the bits of an undisturbed one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from test_interruption import FACTS, begin, killed, wait_until
from trueoracle import Study
from trueoracle.data import Dataset, load_dataset, subset
from trueoracle.fleet import Backend, Stopped, Trained, checkpoint, forget_abandoned, train_alone, train_fleet
from trueoracle.nets import build
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe
from trueoracle.words.trial import FinalProtocol, Outcome

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
SGD = Recipe(optimiser="sgd", lr=0.05, momentum=0.9, batch_size=64, epochs=4, keep="best_on_test")
ADAM = Recipe(optimiser="adamw", lr=0.002, batch_size=64, epochs=4, schedule="cosine")


class Dropping(nn.Module):
    """Draws at random in every step, and has statistics that a step moves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.Dropout(0.3)
        self.head = nn.Linear(196, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(x)))).flatten(1))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return subset(load_dataset("digits", None, torch.device("cpu"), Quiet()), 200, 40, 0)


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_TIMES_THE_WRITING", 0)


def lenets(count: int) -> list[nn.Module]:
    return [build("lenet5-mini", SHAPE, seed) for seed in range(count)]


def same(a: Trained, b: Trained) -> None:
    assert a.outcome == b.outcome
    assert a.curve == b.curve
    assert a.answers == b.answers
    for (name, x), (_, y) in zip(a.net.state_dict().items(), b.net.state_dict().items(), strict=True):
        assert torch.equal(x, y), name


def cut_off_after(asks: int) -> Callable[[], bool]:
    left = iter(range(asks))
    return lambda: next(left, None) is None


CASES: dict[str, tuple[Callable[[], list[nn.Module]], Recipe, Backend]] = {
    "loop, momentum": (lambda: lenets(1), SGD, "loop"),
    "loop, AdamW, dropout, BatchNorm": (lambda: [Dropping()], ADAM, "loop"),
    "lanes, momentum": (lambda: lenets(3), SGD, "lanes"),
    "lanes, AdamW": (lambda: lenets(3), ADAM, "lanes"),
    "stacked, momentum": (lambda: lenets(3), SGD, "stacked"),
    "stacked, AdamW": (lambda: lenets(2), ADAM, "stacked"),
}


@pytest.mark.parametrize("case", CASES)
def test_cut_off_again_and_again_it_ends_with_the_same_bits(case: str, data: Dataset, tmp_path: Path) -> None:
    made, recipe, backend = CASES[case]
    torch.manual_seed(5)
    nets = made()
    facts: dict[str, Any] = {"backend": backend, "final": FinalProtocol.BEST_ON_TEST}
    calm = train_fleet(nets, data, recipe, 7, **facts)
    cuts = 0
    while True:
        try:
            found = train_fleet(nets, data, recipe, 7, checkpoints=tmp_path, stop=cut_off_after(6), **facts)
            break
        except Stopped:
            cuts += 1
            assert cuts < 40
    assert cuts >= 2
    for a, b in zip(calm, found, strict=True):
        same(a, b)
    assert list(tmp_path.iterdir()) == []


def test_networks_that_diverged_stay_so(data: Dataset, tmp_path: Path) -> None:
    recipes = [SGD.model_copy(update={"lr": lr, "keep": "last"}) for lr in (0.01, 1e6)]
    calm = train_fleet(lenets(2), data, recipes, 3, backend="lanes")
    assert [one.outcome for one in calm] == [Outcome.FINISHED, Outcome.DIVERGED]
    told: list[int] = []
    with pytest.raises(Stopped):
        train_fleet(lenets(2), data, recipes, 3, backend="lanes", checkpoints=tmp_path, stop=cut_off_after(21))
    found = train_fleet(lenets(2), data, recipes, 3, backend="lanes", checkpoints=tmp_path, on_epoch=told.append)
    assert sum(told) == 4
    same(calm[0], found[0])
    assert found[1].outcome is Outcome.DIVERGED
    assert found[1].curve == calm[1].curve


def test_a_broken_file_or_that_of_another_training_is_made_again(data: Dataset, tmp_path: Path) -> None:
    def cut(seed: int = 7) -> Path:
        with pytest.raises(Stopped):
            train_alone(*lenets(1), data, SGD, seed, checkpoints=tmp_path, stop=cut_off_after(6), backend="loop")
        (path,) = tmp_path.iterdir()
        return path

    calm = train_alone(*lenets(1), data, SGD, 7, backend="loop")
    path = cut()
    whole = path.read_bytes()
    for place in (20, len(whole) // 2, len(whole) - 3):  # in the header, in the numbers, in the last of them
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        same(calm, train_alone(*lenets(1), data, SGD, 7, checkpoints=tmp_path, backend="loop"))
        path.write_bytes(whole[:place])
        same(calm, train_alone(*lenets(1), data, SGD, 7, checkpoints=tmp_path, backend="loop"))
    other = cut(seed=8)
    assert other != path
    other.rename(path)
    same(calm, train_alone(*lenets(1), data, SGD, 7, checkpoints=tmp_path, backend="loop"))


def test_a_folder_that_cannot_be_written_stops_nothing(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    calm = train_alone(*lenets(1), data, ADAM, 7, backend="loop")
    same(calm, train_alone(*lenets(1), data, ADAM, 7, checkpoints=tmp_path / "file", backend="loop"))
    assert (tmp_path / "file").read_text() == ""


def test_what_nobody_went_on_with_is_taken_away(tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (time() - 31 * 86_400,) * 2)
    forget_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_a_base_network_killed_in_its_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path / "cache"))
    long = {**FACTS["train"], "epochs": 40}  # type: ignore[dict-item]
    facts = {**FACTS, "train": long, "cells": [{"prune": {"conv3": 0.2}, "draw": 2}], "repeats": 1}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(facts))
    folder = tmp_path / "cache" / "unfinished"
    process = begin(tmp_path, "run", "short.yaml", "--threads", "1", "--backend", "loop")
    wait_until(lambda: folder.is_dir() and any(folder.glob("*.safetensors")), process)
    assert killed(process) == -signal.SIGKILL

    def whole(store: str) -> Study:
        study = Study(
            str(tmp_path / "short.yaml"), store=f"sqlite:///{tmp_path / store}", backend="loop", progress=Quiet()
        )
        study.run()
        return study

    read: list[bool] = []
    resumed = checkpoint.Checkpoint.read
    monkeypatch.setattr(checkpoint.Checkpoint, "read", lambda self: (kept := resumed(self), read.append(bool(kept)))[0])
    went_on = whole("trueoracle.db")
    assert read[0]
    assert not any(folder.glob("*.safetensors"))
    assert went_on.base_weights() == whole("calm.db").base_weights()
