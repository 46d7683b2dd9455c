"""Blocks of images become pruned losses, whatever the threads and interruptions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trueoracle.data import Split
from trueoracle.executors import Threads
from trueoracle.nets import build
from trueoracle.oracle import Exact, PrunedLosses, Sums, accumulate, exact, loss_table, pruned_column
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import StoreError
from trueoracle.words.shape import InputShape


class Means:
    """An image's loss under mask m is its one pixel times m; it is right where its label is 1."""

    path = "means"
    masks_at_once = 10
    images_at_once = 512

    def sums(self, ranks: Sequence[int], examples: Split) -> Sums:
        total = examples.images_NCHW.double().sum().item()
        right = int((examples.labels_N == 1).sum())
        return Sums(loss_M=np.array(ranks) * total, correct_M=np.full(len(ranks), right))


def pixels(count: int, seed: int = 0) -> Split:
    images = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    return Split(images_NCHW=images, labels_N=torch.arange(count) % 4)


def losses(evaluator: Any, ranks: Sequence[int], images: Split, **how: Any) -> PrunedLosses:
    threads = how.pop("threads", 2)
    return accumulate(evaluator, ranks, images, run=Threads(threads).run, **how)


def test_means_over_all_blocks() -> None:
    images = pixels(1300)
    told: list[int] = []
    found = losses(Means(), range(1, 4), images, advance=told.append)
    mean = images.images_NCHW.double().mean().item()
    np.testing.assert_allclose(found.loss_M, [mean, 2 * mean, 3 * mean])
    np.testing.assert_array_equal(found.accuracy_M, [0.25] * 3)
    np.testing.assert_array_equal(found.standard_error_M, [0] * 3)
    assert (found.images, found.path) == (1300, "means")
    assert sum(told) == 1300
    assert [list(part.ranks) for part in found.parts(2)] == [[1, 2], [3]]


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    found = [losses(Means(), [1], pixels(512, seed), population=10**6) for seed in range(200)]
    errors = [f.standard_error_M[0] for f in found]
    assert np.mean(errors) == pytest.approx(np.std([f.loss_M[0] for f in found]), rel=0.15)
    assert np.mean(errors) == pytest.approx(np.sqrt(1 / 12 / 512), rel=0.1)


def test_a_larger_part_of_the_split_is_surer_than_its_size_says() -> None:
    free, half = (losses(Means(), [1], pixels(512), population=n) for n in (10**9, 1024))
    assert half.standard_error_M[0] == pytest.approx(free.standard_error_M[0] * np.sqrt(0.5), rel=1e-6)


@pytest.fixture(scope="module")
def network() -> tuple[Exact, Split]:
    shape = InputShape(channels=1, height=32, width=32, classes=10)
    space = MaskSpace((SiteChoice(site="conv1", units=10, pruned=5),))
    oracle = exact(build("lenet5-mini", shape, seed=3), space, shape)
    assert isinstance(oracle, Exact)
    noise = torch.Generator().manual_seed(0)
    images, labels = torch.randn(900, 1, 32, 32, generator=noise), torch.randint(0, 10, (900,), generator=noise)
    return oracle, Split(images_NCHW=images, labels_N=labels)


def test_threads_change_nothing(network: tuple[Exact, Split]) -> None:
    one, two, four = (losses(network[0], range(252), network[1], threads=n) for n in (1, 2, 4))
    for other in (two, four):
        np.testing.assert_array_equal(one.loss_M, other.loss_M)
        np.testing.assert_array_equal(one.accuracy_M, other.accuracy_M)


class Breaking(Means):
    """Means of which some blocks are worked out and then the user presses Ctrl-C."""

    def __init__(self, blocks: int) -> None:
        self.left, self.images = blocks, 0

    def sums(self, ranks: Sequence[int], examples: Split) -> Sums:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.images += len(examples)
        return super().sums(ranks, examples)


@pytest.mark.parametrize("blocks", [1, 3, 8])
def test_interrupted_and_resumed_is_as_never_interrupted(blocks: int, tmp_path: Path) -> None:
    keep = tmp_path / "sums.safetensors"
    with pytest.raises(KeyboardInterrupt):
        losses(Breaking(blocks), range(3), pixels(1300), keep=keep, threads=1)
    rest = Breaking(1000)
    resumed = losses(rest, range(3), pixels(1300), keep=keep)
    whole = losses(Means(), range(3), pixels(1300))
    assert rest.images == 1300 - 160 * blocks
    np.testing.assert_array_equal(resumed.loss_M, whole.loss_M)
    np.testing.assert_array_equal(resumed.accuracy_M, whole.accuracy_M)


def test_sums_of_something_else_are_refused_and_kept(tmp_path: Path) -> None:
    keep = tmp_path / "sums.safetensors"
    losses(Means(), range(3), pixels(1300), keep=keep, identity="this")
    before = keep.read_bytes()
    for ranks, identity in ((range(3), "that"), (range(4), "this")):
        with pytest.raises(StoreError, match="keeps the sums of another network, space or data: remove it"):
            losses(Means(), ranks, pixels(1300), keep=keep, identity=identity)
    assert keep.read_bytes() == before
    keep.write_bytes(b"no safetensors")
    with pytest.raises(StoreError, match="cannot be read"):
        losses(Means(), range(3), pixels(1300), keep=keep)


def test_the_written_masks_are_those_of_the_space() -> None:
    space = MaskSpace((SiteChoice(site="a", units=5, pruned=2), SiteChoice(site="b", units=4, pruned=1)))
    assert pruned_column(range(space.count), space).to_pylist() == [mask.pruned_json for mask in space]
    some = space.draw(7, seed=1)
    assert pruned_column(some, space).to_pylist() == [space.unrank(rank).pruned_json for rank in some]


def test_ranks_beyond_64_bits_are_text_in_numeric_order() -> None:
    space = MaskSpace(tuple(SiteChoice(site=f"layer{i}", units=64, pruned=32) for i in range(4)))
    ranks = space.draw(50, seed=1)
    table = loss_table(losses(Nothing(), ranks, pixels(64)), space)
    written = table["mask"].to_pylist()
    assert written == sorted(written)
    assert [int(rank) for rank in written] == list(ranks)
    assert table["pruned"][0].as_py() == space.unrank(ranks[0]).pruned_json


class Nothing(Means):
    """No mask loses anything."""

    def sums(self, ranks: Sequence[int], examples: Split) -> Sums:  # noqa: ARG002
        return Sums(loss_M=np.zeros(len(ranks)), correct_M=np.zeros(len(ranks), dtype=np.int64))
