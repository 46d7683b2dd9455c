"""Blocks of images become pruned losses, whatever the threads and interruptions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trueoracle.errors import StoreError
from trueoracle.nets import build
from trueoracle.oracle.evaluator import Sums
from trueoracle.oracle.exact import Exact, exact
from trueoracle.oracle.measure import Images, Interrupted, measure
from trueoracle.progress import Quiet
from trueoracle.shape import InputShape
from trueoracle.space import MaskSpace, SiteChoice


class Means:
    """An image's loss under mask m is its one pixel times m; it is right where its label is 1."""

    path = "means"

    def sums(self, ranks: Sequence[int], images_BCHW: Tensor, labels_B: Tensor) -> Sums:
        total = images_BCHW.double().sum().item()
        right = int((labels_B == 1).sum())
        return Sums(loss_M=np.array(ranks) * total, correct_M=np.full(len(ranks), right))


def some(images: int, population: int | None = None) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images, 1, 1, 1, generator=generator)
    labels = torch.arange(images) % 4
    return Images(images_NCHW=pixels, labels_N=labels, population=population or images, fingerprint="toy")


def test_means_over_all_blocks() -> None:
    images = some(1300)
    found = measure(Means(), range(1, 4), images, Quiet())
    mean = images.images_NCHW.double().mean().item()
    np.testing.assert_allclose(found.loss_M, [mean, 2 * mean, 3 * mean])
    np.testing.assert_array_equal(found.accuracy_M, [0.25] * 3)
    np.testing.assert_array_equal(found.standard_error_M, [0] * 3)
    assert (found.images, found.population, found.path) == (1300, 1300, "means")
    assert found.best(2).tolist() == [0, 1]


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    errors, means = [], []
    for seed in range(200):
        pixels = torch.rand(512, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
        found = measure(Means(), [1], replace(some(512, 10**6), images_NCHW=pixels), Quiet())
        errors.append(found.standard_error_M[0])
        means.append(found.loss_M[0])
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)
    assert np.mean(errors) == pytest.approx(np.sqrt(1 / 12 / 512), rel=0.1)


@pytest.fixture(scope="module")
def network() -> tuple[Exact, Images]:
    shape = InputShape(channels=1, height=32, width=32, classes=10)
    space = MaskSpace((SiteChoice(site="conv1", units=10, pruned=5),))
    oracle = exact(build("lenet5-mini", shape, seed=3), space, shape)
    assert isinstance(oracle, Exact)
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randn(1700, 1, 32, 32, generator=noise)
    labels = torch.randint(0, 10, (1700,), generator=noise)
    return oracle, Images(images_NCHW=pixels, labels_N=labels, population=1700, fingerprint="noise")


def test_threads_change_nothing(network: tuple[Exact, Images]) -> None:
    one, two, four = (measure(network[0], range(252), network[1], Quiet(), threads=n) for n in (1, 2, 4))
    for other in (two, four):
        np.testing.assert_array_equal(one.loss_M, other.loss_M)
        np.testing.assert_array_equal(one.accuracy_M, other.accuracy_M)


@pytest.mark.parametrize("blocks", [1, 3])
def test_interrupted_and_resumed_is_as_never_interrupted(
    blocks: int, network: tuple[Exact, Images], tmp_path: Path
) -> None:
    partial = tmp_path / "sums" / "partial.safetensors"
    asked = iter([False] * (blocks - 1) + [True])
    with pytest.raises(Interrupted):
        measure(network[0], range(252), network[1], Quiet(), threads=2, partial=partial, stop=lambda: next(asked))
    counted = Counting(network[0])
    resumed = measure(counted, range(252), network[1], Quiet(), partial=partial)
    whole = measure(network[0], range(252), network[1], Quiet())
    assert counted.images == 1700 - 512 * blocks
    np.testing.assert_array_equal(resumed.loss_M, whole.loss_M)
    np.testing.assert_array_equal(resumed.accuracy_M, whole.accuracy_M)
    assert not partial.exists()


class Counting:
    """Another evaluator, with its images counted."""

    def __init__(self, inner: Exact) -> None:
        self.path, self.inner, self.images = inner.path, inner, 0

    def sums(self, ranks: Sequence[int], images_BCHW: Tensor, labels_B: Tensor) -> Sums:
        self.images += len(labels_B)
        return self.inner.sums(ranks, images_BCHW, labels_B)


class Breaking:
    """An evaluator under which the user presses Ctrl-C at the second block."""

    path = "means"

    def __init__(self) -> None:
        self.calls = 0

    def sums(self, ranks: Sequence[int], images_BCHW: Tensor, labels_B: Tensor) -> Sums:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return Means().sums(ranks, images_BCHW, labels_B)


def test_ctrl_c_keeps_what_was_done_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    partial = tmp_path / "partial.safetensors"
    with pytest.raises(KeyboardInterrupt):
        measure(Breaking(), range(3), some(1300), Quiet(), partial=partial)
    foreign = replace(some(1300), fingerprint="another")
    with pytest.raises(StoreError, match="holds the partial sums of another measurement"):
        measure(Means(), range(3), foreign, Quiet(), partial=partial)
    with pytest.raises(StoreError, match="holds the partial sums of another measurement"):
        measure(Means(), range(4), some(1300), Quiet(), partial=partial)
    resumed = measure(Means(), range(3), some(1300), Quiet(), partial=partial)
    np.testing.assert_array_equal(resumed.loss_M, measure(Means(), range(3), some(1300), Quiet()).loss_M)
    partial.write_bytes(b"no safetensors")
    with pytest.raises(StoreError, match="cannot be read"):
        measure(Means(), range(3), some(1300), Quiet(), partial=partial)
