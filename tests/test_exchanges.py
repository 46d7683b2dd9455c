"""Swap descent under a fixed cost: units move between sites, and never is more left than may be."""

import json
from itertools import combinations, product
from pathlib import Path
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from trueoracle.cli.app import app
from trueoracle.nets import build, cost, find_sites, remove
from trueoracle.search import Ask, Budget, Ceiling, Found, Hunt, Judged, Memory, search
from trueoracle.search.exchanges import Exchanges
from trueoracle.space import MaskSpace, SiteChoice, Subsets
from trueoracle.study import changed, load_spec, plan
from trueoracle.words.errors import SpecError
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

UNITS = (5, 4, 3)
SPACE = MaskSpace(tuple(SiteChoice(site=s, units=n, pruned=2) for s, n in zip("abc", UNITS, strict=True)))
SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
Kept = tuple[tuple[int, ...], ...]


def weight(counts: tuple[int, ...]) -> int:
    """As three layers in a row cost: each its inputs times its outputs."""
    a, b, c = counts
    return 3 * a + a * b + b * c + 10 * c


CEILING = Ceiling(of="parameters", cost=weight, most=weight((3, 2, 1)))


def everything() -> list[Kept]:
    """All masks that cost no more, one by one."""
    of_site = [[k for n in range(1, units + 1) for k in combinations(range(units), n)] for units in UNITS]
    return [kept for kept in product(*of_site) if weight(tuple(map(len, kept))) <= CEILING.most]


class Table:
    """Losses made up for every mask; it checks that none is asked for that costs too much."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.worth, self.seed = [random.random(n) for n in UNITS], seed

    def loss(self, kept: Kept) -> float:
        lost = sum(w.sum() - w[list(k)].sum() for w, k in zip(self.worth, kept, strict=True))
        return float(lost + 0.3 * np.random.default_rng([self.seed, Subsets.of(SPACE).rank(kept)]).random())

    def __call__(self, ask: Ask) -> Judged:
        found = []
        for rank in ask.ranks:
            parts = {part.site: part.kept for part in ask.space.unrank(rank).sites}
            kept = tuple(parts.get(site, tuple(range(n))) for site, n in zip("abc", UNITS, strict=True))
            assert weight(tuple(map(len, kept))) <= CEILING.most
            found.append(self.loss(kept))
        loss_M = np.array(found)
        return Judged(loss_M=loss_M, accuracy_M=0 * loss_M, standard_error_M=0 * loss_M)


def found_by(table: Table, evaluations: int, seed: int = 0, keep: Path | None = None) -> Found:
    hunt = Hunt(method="swaps", budget=Budget(evaluations=evaluations), seed=seed)
    return search(Memory(table, keep), SPACE, 100, hunt, ceiling=CEILING)


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_trying_everything_finds(seed: int) -> None:
    table, masks = Table(seed), everything()
    found = found_by(table, len(masks) // 3, seed)
    best = min(masks, key=table.loss)
    assert found.best == Subsets.of(SPACE).rank(best)
    assert found.loss == pytest.approx(table.loss(best))
    assert [len(part.kept) for part in found.mask(found.best).sites] == [len(k) for k in best]
    assert not found.exact


def test_some_best_mask_has_other_counts_than_the_ratios() -> None:
    counts = {tuple(map(len, min(everything(), key=Table(seed).loss))) for seed in range(5)}
    assert counts - {(3, 2, 1)}


@pytest.mark.parametrize("seed", range(20))
def test_moves_are_all_there_are_and_none_costs_too_much(seed: int) -> None:
    random = Random(seed)
    at = random.choice(everything())
    moves = Exchanges(UNITS, at, CEILING, random)
    near = list(moves.shuffled())
    assert len(near) == len(moves)
    assert at not in near
    for kept in near:
        assert weight(tuple(map(len, kept))) <= CEILING.most
        comes = [set(new) - set(old) for new, old in zip(kept, at, strict=True)]
        assert sum(map(len, comes)) == 1
    for kept in everything():  # each that one unit more of a site, and one less of the same or of another, makes
        comes = [b for b in range(3) if set(kept[b]) - set(at[b])]
        gone = sum(len(set(old) - set(new)) for new, old in zip(kept, at, strict=True))
        if len(comes) == gone == 1 and len(set(kept[comes[0]]) - set(at[comes[0]])) == 1:
            roomy = weight(tuple(len(k) + (b == comes[0]) for b, k in enumerate(at))) <= CEILING.most
            assert kept in near or (roomy and len(kept[comes[0]]) > len(at[comes[0]]))


def test_the_seed_decides_everything_and_a_killed_search_goes_on(tmp_path: Path) -> None:
    one, same, other = (found_by(Table(0), 80, seed) for seed in (3, 3, 4))
    assert (one.ranks, one.ends) == (same.ranks, same.ends)
    assert one.ranks != other.ranks
    found_by(Table(0), 30, 3, tmp_path / "losses.jsonl")
    assert found_by(Table(0), 80, 3, tmp_path / "losses.jsonl").ranks == one.ranks


def test_names_of_masks_and_masks_are_one_to_one() -> None:
    subsets = Subsets.of(SPACE)
    masks = [subsets.unrank(subsets.rank(kept)) for kept in everything()]
    assert [tuple(part.kept for part in mask.sites) for mask in masks] == everything()
    assert len({mask.rank for mask in masks}) == len(masks)
    with pytest.raises(ValueError, match="mask 1 keeps nothing of `b`"):
        subsets.unrank(1)
    with pytest.raises(ValueError, match="`place` must lie below 2\\^12, but got 8191"):
        subsets.unrank(2**13 - 1)


def test_a_search_that_keeps_the_ratios_is_refused() -> None:
    hunt = Hunt(method="draws", budget=Budget(evaluations=10))
    with pytest.raises(
        SpecError, match="search `draws` keeps the ratios of the sites: where parameters are fixed, take `swaps`"
    ):
        search(Memory(Table(0)), SPACE, 100, hunt, ceiling=CEILING)


@pytest.mark.parametrize("fix", ["parameters", "macs"])
def test_on_a_network_no_mask_leaves_more_than_the_ratios(fix: str, tmp_path: Path) -> None:
    net, output = build("lenet5-mini", SHAPE, seed=1), tmp_path / "found.parquet"
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    options = ["--model", "lenet5-mini", "--weights", str(tmp_path / "w.safetensors"), "--data", "digits", "--prune", "conv1=0.5",
               "--prune", "conv2=0.5", "--prune", "conv3=0.5", "--images", "100", "--search", "swaps", "--evaluations", "40",
               "--threads", "1"]  # fmt: skip
    result = CliRunner().invoke(app, ["oracle", *options, "--fix", fix, "-o", str(output)])
    assert result.exit_code == 0, result.output
    called = {"parameters": "parameters", "macs": "multiply-accumulates"}[fix]
    assert f"{called} by `swaps`" in " ".join(result.output.split())
    rows = pq.read_table(output).to_pylist()
    sites = find_sites(net, SHAPE)
    half = [SiteMask(site=s, units=10, kept=tuple(range(5))) for s in ("conv1", "conv2", "conv3")]
    most = getattr(cost(remove(net, Mask(rank=0, sites=tuple(half)), sites), SHAPE), fix)
    assert len(rows) == 40
    assert max(row["cost"] for row in rows) <= most
    assert len({row["pruned"] for row in rows}) == 40
    words = result.output.replace("\n", "").partition("as a cell of a study: ")[2]
    facts = {"cells": [yaml.safe_load(words)], "seeds_of": "here"}
    (cell,) = plan(changed(load_spec("quickstart").facts(), facts, "quickstart")).cells
    (mask,) = cell.masks_of(cell.ranks)
    lowest = min(rows, key=lambda row: row["pruned_train_loss"])
    assert mask.pruned == {s: tuple(units) for s, units in json.loads(lowest["pruned"]).items() if units}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--search", "swaps", "--evaluations", "9", "--fix", "parameter"], "unknown cost `parameter`: did you mean `parameters`?"),
        (["--fix", "macs"], "`--fix` is for a search: name one, such as `--search swaps`"),
        (["--search", "draws", "--evaluations", "9", "--fix", "macs"], "where multiply-accumulates are fixed, take `swaps`"),
    ],
)  # fmt: skip
def test_a_cost_that_cannot_be_fixed_is_one_clear_line(options: list[str], message: str, tmp_path: Path) -> None:
    save_file(build("lenet5-mini", SHAPE, seed=1).state_dict(), tmp_path / "w.safetensors")
    asked = ["oracle", "--model", "lenet5-mini", "--weights", str(tmp_path / "w.safetensors"), "--data", "digits",
             "--prune", "conv1=0.5", "--threads", "1", "-o", str(tmp_path / "found.csv")]  # fmt: skip
    result = CliRunner().invoke(app, [*asked, *options])
    with pytest.raises(SpecError) as caught:
        raise result.exception or AssertionError(result.output)
    assert message in str(caught.value)
