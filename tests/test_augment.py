"""Augmentation by hand on images of four pixels, its properties on larger ones, and that it depends on its seed alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from trueoracle.data import Augmenter, Normalisation, torch_seeded
from trueoracle.words.errors import SpecError
from trueoracle.words.spec import Augmentation, RandAugment

PLAIN = Normalisation(mean=(0.0,), deviation=(1.0,))
COLOUR = Normalisation(mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.25, 0.3))
IMAGE = torch.tensor([[0.1, 0.2], [0.3, 0.4]])


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def results(augmentation: Augmentation, copies: int = 400) -> dict[tuple[float, ...], int]:
    """How often each result comes out of so many copies of `IMAGE`."""
    changed = Augmenter(augmentation, (2, 2), PLAIN)(IMAGE.expand(copies, 1, 2, 2).clone(), chance())
    found = [tuple(round(v, 6) for v in image.flatten().tolist()) for image in changed]
    return {one: found.count(one) for one in found}


def test_a_padded_crop_is_one_of_nine_by_hand() -> None:
    counts = results(Augmentation(crop_padding=1))
    assert set(counts) == {
        (0.0, 0.0, 0.0, 0.1), (0.0, 0.0, 0.1, 0.2), (0.0, 0.0, 0.2, 0.0),
        (0.0, 0.1, 0.0, 0.3), (0.1, 0.2, 0.3, 0.4), (0.2, 0.0, 0.4, 0.0),
        (0.0, 0.3, 0.0, 0.0), (0.3, 0.4, 0.0, 0.0), (0.4, 0.0, 0.0, 0.0),
    }  # fmt: skip
    assert min(counts.values()) > 400 / 9 / 2


def test_padding_is_black_whatever_the_normalisation() -> None:
    images = torch.zeros(50, 3, 4, 4)  # grey levels equal to the means
    changed = COLOUR.undo(Augmenter(Augmentation(crop_padding=4), (4, 4), COLOUR)(images, chance()))
    for channel, mean in enumerate(COLOUR.mean):
        values = changed[:, channel].unique().tolist()
        assert all(v == pytest.approx(0, abs=1e-6) or v == pytest.approx(mean, abs=1e-6) for v in values)


def test_every_second_image_is_mirrored_left_to_right() -> None:
    counts = results(Augmentation(flip=True))
    assert set(counts) == {(0.1, 0.2, 0.3, 0.4), (0.2, 0.1, 0.4, 0.3)}
    assert 160 < counts[0.1, 0.2, 0.3, 0.4] < 240


def test_a_resized_crop_has_the_networks_size_and_no_new_levels() -> None:
    images = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    changed = Augmenter(Augmentation(resized_crop=0.3), (4, 4), PLAIN)(images, chance())
    assert changed.shape == (8, 1, 4, 4)
    assert images.min() <= changed.min()
    assert changed.max() <= images.max()
    level = torch.full((8, 1, 6, 6), 0.7)
    torch.testing.assert_close(
        Augmenter(Augmentation(resized_crop=0.08), (4, 4), PLAIN)(level, chance()), level[:, :, :4, :4]
    )


def test_rand_augment_changes_each_image_by_an_operation_of_its_own() -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    augment = Augmenter(Augmentation(rand_augment=RandAugment(operations=1, magnitude=9)), (8, 8), COLOUR)
    changed = COLOUR.undo(augment(COLOUR(image.expand(200, 3, 8, 8).clone()), chance()))
    assert changed.min() >= -1e-6
    assert changed.max() <= 1 + 1e-6
    assert 12 <= len({tuple(one.flatten().round(decimals=4).tolist()) for one in changed}) <= 40
    # Two of its operations by hand: the negative, and 0.1 + 0.3 (1.9 - 0.1) times the brightness.
    for wanted in (1 - image, image * 0.64):
        assert any(torch.allclose(one, wanted, atol=1e-5) for one in changed)


def test_rand_augment_of_grey_images_is_refused() -> None:
    with pytest.raises(SpecError, match="`rand_augment` needs images of 3 channels, but these have 1"):
        Augmenter(Augmentation(rand_augment=RandAugment(operations=2, magnitude=9)), (2, 2), PLAIN)


ALL = Augmentation(crop_padding=2, flip=True, rand_augment=RandAugment(operations=2, magnitude=9))


def changed_by(seed: int) -> Tensor:
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    augment = Augmenter(ALL, (16, 16), COLOUR)
    return torch.stack([augment(COLOUR(images.clone()), chance(seed + batch)) for batch in range(3)])


def test_threads_side_by_side_change_nothing() -> None:
    alone = [changed_by(seed) for seed in range(4)]
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        together = list(pool.map(changed_by, range(4)))
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(alone[0][0], alone[0][1])


def test_torchs_own_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    changed_by(0)
    assert torch.equal(before, torch.get_rng_state())
    with torch_seeded(3) as drawn:
        assert not drawn()
        first = torch.rand(2)
        assert drawn()
    with torch_seeded(3):
        assert torch.equal(first, torch.rand(2))
    assert torch.equal(before, torch.get_rng_state())


def test_double_precision_stays_double() -> None:
    assert (
        Augmenter(ALL, (16, 16), COLOUR)(torch.zeros(4, 3, 16, 16, dtype=torch.float64), chance()).dtype
        is torch.float64
    )
