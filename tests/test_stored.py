"""Images that stay bytes give the numbers of images on the device; ImageNet's layout; real CIFAR-10."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from test_data import png, write_split
from trueoracle.data import Dataset, Split, StoredSplit, images_of, load_dataset, subset
from trueoracle.data.load import room
from trueoracle.fleet import assign, evaluated, train
from trueoracle.nets import build, evaluate, find_sites
from trueoracle.oracle import accumulate, evaluator
from trueoracle.study.plan import mask_space
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Augmentation, RandAugment, Recipe

CPU = torch.device("cpu")
COLOUR = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)


def load(folder: Path, largest: int | None = None) -> Dataset:
    return load_dataset("cifar10", folder, CPU, Quiet(), largest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A little `cifar10`: 40 train images, 10 test images."""
    for split, part in (("train", slice(40)), ("test", slice(40, 50))):
        labels = (np.arange(50) % 10)[part].tolist()
        write_split(tmp_path / "cifar10", split, [png(pixels) for pixels in COLOUR[part]], labels)
    return tmp_path


def test_the_largest_set_that_lies_on_the_device_is_one_that_fits_exactly(folder: Path) -> None:
    floats = 50 * 3 * 32 * 32 * 4
    assert isinstance(load(folder, floats).train, Split)
    beyond = load(folder, floats - 1)
    assert isinstance(beyond.train, StoredSplit)
    assert isinstance(beyond.test, StoredSplit)
    assert 0 < room(CPU) <= 8 * 2**30


def test_bytes_that_do_not_fit_either_are_mapped_from_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(folder / "cache"))
    as_bytes = 50 * 3 * 32 * 32
    held, mapped = load(folder, as_bytes), load(folder, as_bytes - 1)
    (kept,) = (folder / "cache").glob("*/train.pixels")
    with kept.open("r+b") as file:
        file.write(bytes(3 * 32 * 32))  # the first image turns black, for whom it is read from the file
    assert isinstance(held.train, StoredSplit)
    assert isinstance(mapped.train, StoredSplit)
    assert held.train.pixels_NCHW[0].any()
    assert not mapped.train.pixels_NCHW[0].any()


def test_stored_images_are_the_same_to_the_last_bit(folder: Path) -> None:
    whole, stored = load(folder), load(folder, 0)
    assert whole.fingerprint == stored.fingerprint
    chosen = torch.tensor([5, 0, 39])
    for take in (slice(0, 40), slice(3, 7), chosen):
        ours, theirs = images_of(stored.train.take(take)), images_of(whole.train.take(take))
        assert torch.equal(ours.images_NCHW, theirs.images_NCHW)
        assert torch.equal(ours.labels_N, theirs.labels_N)
    assert stored.train.at_once == whole.train.at_once == 250
    twice, once = stored.train.take(chosen).take(slice(1, 2)), whole.train.take(slice(0, 1))
    assert torch.equal(images_of(twice).images_NCHW, images_of(once).images_NCHW)


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(crop_padding=4, flip=True, rand_augment=RandAugment(operations=2, magnitude=9))],
)
def test_a_training_from_disk_has_the_numbers_of_one_on_the_device(folder: Path, augmentation: Augmentation) -> None:
    recipe = Recipe(
        optimiser="sgd", lr=0.05, momentum=0.9, batch_size=16, epochs=2, augmentation=augmentation, mixup=0.5
    )
    net = build("resnet20", InputShape(channels=3, height=32, width=32, classes=10), seed=1, width_factor=0.25)
    whole, stored = (train(net, data, recipe, order_seed=3) for data in (load(folder), load(folder, 0)))
    assert whole.curve == stored.curve
    for a, b in zip(whole.net.parameters(), stored.net.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("path", ["loop", "batched"])
def test_pruned_losses_from_disk_are_those_of_images_on_the_device(folder: Path, path: str) -> None:
    whole, stored = load(folder), load(folder, 0)
    net = build("resnet20", whole.shape, seed=1, width_factor=0.25)
    space = mask_space({"layer1.0.conv1": 0.5}, find_sites(net, whole.shape))
    judge = evaluator(net, space, whole.shape, path=path)
    one, other = (
        accumulate(judge, range(space.count), data.train, run=lambda work, items: (work(i, bool) for i in items))
        for data in (whole, stored)
    )
    assert (one.loss_M == other.loss_M).all()
    assert evaluate(net, whole.test) == evaluate(net, stored.test)


def test_fleets_leave_stored_images_to_the_loop(folder: Path) -> None:
    data = load(folder, 0)
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))
    recipe = Recipe(optimiser="sgd", lr=0.1, batch_size=16, epochs=1)
    assignment = assign(net, data, recipe)
    assert assignment.backend == "loop"
    assert "images are many or are kept larger" in assignment.reason


def test_a_part_of_a_stored_set_is_stratified_and_stays_stored(folder: Path) -> None:
    whole, stored = load(folder), load(folder, 0)
    part = subset(stored, 20, 10, seed=0)
    assert isinstance(part.train, StoredSplit)
    assert torch.bincount(part.train.labels_N).tolist() == [2] * 10
    same = images_of(subset(whole, 20, 10, seed=0).train)
    assert torch.equal(images_of(part.train).images_NCHW, same.images_NCHW)


def imagenet(folder: Path) -> Dataset:
    """Six photographs of various sizes in ImageNet's layout; its test split, without labels, lies beside."""
    random = np.random.default_rng(1)
    sizes = [(300, 400), (500, 260), (256, 256), (200, 220), (350, 350), (270, 600)]
    photos = [png(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in sizes]
    write_split(folder / "imagenet-1k", "train", photos[:4], [0, 999, 7, 7])
    write_split(folder / "imagenet-1k", "validation", photos[4:], [3, 0])
    write_split(folder / "imagenet-1k", "test", photos[:1], [-1])
    return load_dataset("imagenet-1k", folder, CPU, Quiet())


def test_imagenet_is_kept_at_256_and_seen_at_224(tmp_path: Path) -> None:
    data = imagenet(tmp_path)
    assert data.shape == InputShape(channels=3, height=224, width=224, classes=1000)
    assert isinstance(data.train, StoredSplit)
    assert data.train.pixels_NCHW.shape == (4, 3, 256, 256)
    assert data.train.labels_N.tolist() == [0, 999, 7, 7]
    assert data.test.labels_N.tolist() == [3, 0]  # type: ignore[attr-defined]
    assert data.train.at_once == 16
    seen = images_of(data.train.take(slice(2, 3))).images_NCHW[0]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    kept = data.train.pixels_NCHW[2, :, 16:240, 16:240].float() / 255
    torch.testing.assert_close(seen, (kept - mean[:, None, None]) / deviation[:, None, None])


def test_a_resized_crop_is_taken_from_what_is_kept(tmp_path: Path) -> None:
    data = imagenet(tmp_path)
    assert isinstance(data.train, StoredSplit)
    # White margins outside of the middle 224x224, all black within: only a crop of the whole can see white.
    pixels = torch.full((4, 3, 256, 256), 255, dtype=torch.uint8)
    pixels[:, :, 16:240, 16:240] = 0
    data = replace(data, train=replace(data.train, pixels_NCHW=pixels))

    class Brightest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1000))
            self.seen: list[float] = []

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape[1:] == (3, 224, 224)
            if self.training:
                self.seen.append(images.max().item())
            return images.flatten(1)[:, :1000] * 0 + self.weight

    net = Brightest()
    for augmentation, sees_white in ((Augmentation(flip=True), False), (Augmentation(resized_crop=0.9), True)):
        recipe = Recipe(optimiser="sgd", lr=0.1, batch_size=4, epochs=1, augmentation=augmentation)
        trained = train(net, data, recipe, 0).net
        assert (trained.seen[-1] > 2) == sees_white  # type: ignore[operator, index]


def test_real_cifar10_is_trained_on_with_the_customary_augmentation(
    cifar10_part: Callable[[Path, int], None], tmp_path: Path
) -> None:
    cifar10_part(tmp_path, 600)
    data = load(tmp_path)
    net = build("resnet20", data.shape, seed=0, width_factor=0.25)
    recipe = Recipe(
        optimiser="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, batch_size=128, epochs=2,
        augmentation=Augmentation(crop_padding=4, flip=True),
    )  # fmt: skip
    assert train(net, data, recipe, 0).curve[-1].train_loss < evaluated(net, data).figures.train_loss


@pytest.mark.slow
def test_real_cifar10_has_the_classes_and_levels_that_are_known_of_it(real_data: Path) -> None:
    data = load(real_data)
    train, test = images_of(data.train), images_of(data.test)
    assert torch.bincount(train.labels_N).tolist() == [5000] * 10
    assert torch.bincount(test.labels_N).tolist() == [1000] * 10
    assert train.images_NCHW.mean((0, 2, 3)).abs().max() < 0.01
    assert (train.images_NCHW.std((0, 2, 3)) - 1).abs().max() < 0.01
