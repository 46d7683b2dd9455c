"""Searches through the oracle: any path below them, the losses those of the whole landscape."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from trueoracle.api import pruned_losses, search_masks
from trueoracle.cli.app import app
from trueoracle.data import load_dataset
from trueoracle.nets import build, evaluate, find_sites, remove
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import SpecError, TrueOracleError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
PRUNE = {"conv2": 0.2, "conv3": 0.8}


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return build("lenet5-mini", SHAPE, seed=1)


@pytest.fixture(scope="module")
def landscape(net: torch.nn.Module) -> pd.DataFrame:
    return pruned_losses(net, None, "digits", PRUNE, threads=1, progress=Quiet())


@pytest.fixture(scope="module")
def losses(landscape: pd.DataFrame) -> pd.Series:
    return landscape["pruned_train_loss"]


@pytest.mark.parametrize("path", ["exact", "batched", "loop"])
def test_a_search_sees_the_losses_of_the_landscape_by_every_path(
    path: str, net: torch.nn.Module, losses: pd.Series
) -> None:
    found = search_masks(net, None, "digits", PRUNE, evaluations=30, path=path, threads=1, progress=Quiet())
    assert len(found.ranks) == 30
    np.testing.assert_allclose(found.loss_M, losses[list(found.ranks)], rtol=1e-5)
    assert found.loss == found.loss_M.min()


def test_greedy_passes_through_masks_that_prune_less(
    net: torch.nn.Module, landscape: pd.DataFrame, losses: pd.Series
) -> None:
    """The first unit that goes is the one that hurts least alone, by the physically pruned networks."""
    found = search_masks(net, None, "digits", PRUNE, search="greedy-backward", threads=1, progress=Quiet())
    assert found.loss == pytest.approx(losses[found.best], rel=1e-5)
    train = load_dataset("digits", None, torch.device("cpu"), Quiet()).train
    sites = find_sites(net, SHAPE)
    alone = {
        (site, unit): evaluate(remove(net, Mask(rank=0, sites=(without(site, unit),)), sites), train).loss
        for site in PRUNE
        for unit in range(10)
    }
    site, unit = min(alone, key=alone.__getitem__)
    assert unit in json.loads(landscape["pruned"][found.best])[site]


def without(site: str, unit: int) -> SiteMask:
    return SiteMask(site=site, units=10, kept=tuple(other for other in range(10) if other != unit))


def test_a_race_agrees_with_the_landscape(net: torch.nn.Module, losses: pd.Series) -> None:
    found = search_masks(net, None, "digits", PRUNE, search="race", sample=20, threads=1, progress=Quiet())
    assert found.listed == 20
    assert found.best == losses[list(drawn())].idxmin()
    assert found.evaluations < 20


def drawn() -> tuple[int, ...]:
    sites = [SiteChoice(site=site, units=10, pruned=int(10 * ratio)) for site, ratio in PRUNE.items()]
    return MaskSpace(tuple(sites)).draw(20, seed=0)


def call(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def words(net: torch.nn.Module, tmp_path: Path) -> list[str]:
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    return ["oracle", "--model", "lenet5-mini", "--weights", str(tmp_path / "w.safetensors"), "--data", "digits",
            "--prune", "conv2=0.2", "--prune", "conv3=0.8", "--threads", "1"]  # fmt: skip


def test_the_command_writes_what_it_evaluated_and_marks_it(words: list[str], tmp_path: Path, losses: pd.Series) -> None:
    path = tmp_path / "found.csv"
    said = call(*words, "--search", "swaps", "--evaluations", "40", "-o", str(path))
    table = pd.read_csv(path)
    assert len(table) == 40
    assert table["searched"].all()
    assert table["mask"].is_monotonic_increasing
    np.testing.assert_allclose(table["pruned_train_loss"], losses[table["mask"]], rtol=1e-5)
    assert "best found by `swaps` on 1,437 images: 40 evaluations; " in " ".join(said.split())
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--search", "swap", "--evaluations", "9"], "unknown search `swap`: did you mean `swaps`?"),
        (["--search", "swaps"], "say how many `evaluations`"),
        (["--search", "swaps", "--evaluations", "0"], "`evaluations` must be at least 1, but got 0"),
        (["--search", "swaps", "--evaluations", "9", "--sample", "5"], "it takes no drawn ones"),
        (["--search", "greedy-forward", "--evaluations", "9"], "takes up to 71 evaluations to its first mask"),
        (["--evaluations", "9"], "`--evaluations` is for a search: name one, such as `--search swaps`"),
        (["--search", "race", "--confidence", "2"], r"`confidence` must lie in \(0, 1\), but got 2"),
    ],
)
def test_a_search_that_cannot_be_is_one_clear_line(
    more: list[str], message: str, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(TrueOracleError, match=message):
        call(*words, *more, "-o", str(tmp_path / "found.csv"))
    assert not list(tmp_path.glob("found*"))


def test_an_unknown_search_is_refused_before_anything_is_loaded(net: torch.nn.Module) -> None:
    with pytest.raises(SpecError, match="unknown search `greedy`: did you mean `greedy-"):
        search_masks(net, None, "no such data", PRUNE, search="greedy")
