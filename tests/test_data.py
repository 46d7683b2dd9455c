"""Datasets from local parquet files: read right, decoded once, and refused in one line where they are broken."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trueoracle.data import Dataset, find_dataset, load_dataset
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Quiet

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12) % 10


def png(pixels: np.ndarray) -> dict[str, object]:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def write_split(folder: Path, split: str, images: list[dict[str, object]], labels: list[int], **names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = {names.get("image", "image"): images, names.get("label", "label"): labels}
    pq.write_table(pa.table(columns), folder / f"{split}-00000-of-00001.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with a little `mnist`: 8 train images, 4 test images."""
    images = [png(p) for p in PIXELS]
    write_split(tmp_path / "data" / "mnist", "train", images[:8], LABELS[:8].tolist())
    write_split(tmp_path / "data" / "mnist", "test", images[8:], LABELS[8:].tolist())
    return tmp_path / "data"


def load(name: str, folder: Path | None) -> Dataset:
    return load_dataset(name, folder, torch.device("cpu"), Quiet())


def test_grey_images_are_resized_by_pil_bilinearly_and_normalised(folder: Path) -> None:
    data = load("mnist", folder)
    resized = np.array(Image.fromarray(PIXELS[0]).resize((32, 32), Image.Resampling.BILINEAR))
    wanted = (torch.from_numpy(resized).float() / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(data.train.images_NCHW[0, 0], wanted, rtol=1e-6, atol=1e-6)
    assert data.train.labels_N.tolist() == LABELS[:8].tolist()
    assert (len(data.train), len(data.test)) == (8, 4)


def test_the_second_reading_needs_no_decoding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("mnist", folder)
    monkeypatch.setattr("datasets.load_dataset", None)
    second = load("mnist", folder)
    assert second.fingerprint == first.fingerprint
    torch.testing.assert_close(second.test.images_NCHW, first.test.images_NCHW, rtol=0, atol=0)


def test_a_damaged_cache_is_read_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path / "cache"))
    first = load("mnist", folder)
    (kept,) = (tmp_path / "cache").iterdir()
    assert sorted(p.name for p in kept.iterdir()) == [
        "facts.json", "test.labels", "test.pixels", "train.labels", "train.pixels"
    ]  # fmt: skip
    for file in kept.iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert load("mnist", folder).fingerprint == first.fingerprint
        assert file.read_bytes() == whole


def test_a_broken_image_leaves_nothing_in_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path / "cache"))
    write_split(folder / "mnist", "test", [png(PIXELS[0]), {"bytes": b"no picture", "path": None}], [0, 1])
    with pytest.raises(DataError, match=r"row 2 of `.*test-00000-of-00001.parquet` is no image of a known format"):
        load("mnist", folder)
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="cannot be kept in `.*` .*: name another folder by .* TRUEORACLE_CACHE"):
        load("mnist", folder)


def test_other_pixels_have_another_fingerprint(folder: Path) -> None:
    first = load("mnist", folder)
    write_split(folder / "mnist", "test", [png(255 - p) for p in PIXELS[8:]], LABELS[8:].tolist())
    assert load("mnist", folder).fingerprint != first.fingerprint


def test_the_columns_of_the_colour_sets_are_known(tmp_path: Path) -> None:
    colour = GENERATOR.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for split in ("train", "test"):
        write_split(
            tmp_path / "cifar100", split, [png(p) for p in colour], [0, 57, 99], image="img", label="fine_label"
        )
    data = load("cifar100", tmp_path)
    assert data.train.images_NCHW.shape == (3, 3, 32, 32)
    assert data.test.labels_N.tolist() == [0, 57, 99]
    raw = data.train.images_NCHW[1] * torch.tensor([0.2673, 0.2564, 0.2762])[:, None, None]
    restored = (raw + torch.tensor([0.5071, 0.4865, 0.4409])[:, None, None]) * 255
    torch.testing.assert_close(restored, torch.from_numpy(colour[1]).permute(2, 0, 1).float(), rtol=0, atol=1e-2)


def test_the_digits_need_no_folder_and_never_change() -> None:
    data = load("digits", None)
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.train.images_NCHW.shape[1:] == (1, 32, 32)
    counts = torch.bincount(data.test.labels_N)
    assert counts.min() >= 35
    assert counts.max() <= 37
    assert data.train.images_NCHW.mean().abs() < 0.01
    assert data.fingerprint.startswith("5fe14a7b6e37d427")


def broken_parquet(folder: Path) -> None:
    (folder / "mnist" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 and nothing more")


def broken_image(folder: Path) -> None:
    write_split(folder / "mnist", "train", [{"bytes": b"no picture", "path": None}], [0])


def broken_off(folder: Path) -> None:
    content = png(PIXELS[0])["bytes"]
    write_split(folder / "mnist", "train", [{"bytes": content[:300], "path": None}], [0])  # type: ignore[index]


def colour(folder: Path) -> None:
    write_split(folder / "mnist", "train", [png(np.zeros((28, 28, 3), np.uint8))], [0])


def deep(folder: Path) -> None:
    write_split(folder / "mnist", "train", [png(np.full((28, 28), 1000, np.uint16))], [0])


def no_label(folder: Path) -> None:
    write_split(folder / "mnist", "train", [png(PIXELS[0]), png(PIXELS[1])], [0, None])  # type: ignore[list-item]


def wrong_size(folder: Path) -> None:
    write_split(folder / "mnist", "train", [png(np.zeros((30, 28), np.uint8))], [0])


def wrong_label(folder: Path) -> None:
    write_split(folder / "mnist", "train", [png(PIXELS[0])], [10])


def no_rows(folder: Path) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    empty = pa.table({"image": pa.array([], kind), "label": pa.array([], pa.int64())})
    pq.write_table(empty, folder / "mnist" / "train-00000-of-00001.parquet")


def other_columns(folder: Path) -> None:
    write_split(folder / "mnist", "train", [png(PIXELS[0])], [1], image="picture")


def no_test_split(folder: Path) -> None:
    (folder / "mnist" / "test-00000-of-00001.parquet").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken_parquet, "train-00000-of-00001.parquet` cannot be read"),
        (broken_image, "row 1 of `.*train-00000-of-00001.parquet` is no image of a known format"),
        (broken_off, "row 1 of `.*train-00000-of-00001.parquet` cannot be read"),
        (wrong_size, "row 1 of `.*train-00000-of-00001.parquet` has 28x30 pixels, not 28x28"),
        (colour, "row 1 of `.*train-00000-of-00001.parquet` has colours, but this is a set of grey images"),
        (deep, "row 1 of `.*train-00000-of-00001.parquet` has more than 8 bits a pixel and channel"),
        (wrong_label, "row 1 of `.*train-00000-of-00001.parquet` holds label 10, but there are 10 classes"),
        (no_label, "row 2 of `.*train-00000-of-00001.parquet` has no label"),
        (no_rows, "the train split of `mnist` holds no images"),
        (other_columns, "holds no column `image` or `img`; it holds picture, label"),
        (no_test_split, r"holds no test\*.parquet"),
    ],
)
def test_a_broken_folder_is_one_clear_line(folder: Path, spoil: object, message: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as problem:
        load("mnist", folder)
    assert "\n" not in str(problem.value)


def test_a_missing_folder_is_named_with_what_there_is(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data folder `.*nowhere` does not exist"):
        load("mnist", tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no folder `kmnist`; it holds mnist"):
        load("kmnist", folder)
    with pytest.raises(DataError, match="`kmnist10k` is on no hub: name its folder with --data-dir"):
        load("kmnist10k", None)


def test_the_hub_is_asked_by_the_sets_own_names() -> None:
    assert find_dataset("mnist").read.hub_id == "ylecun/mnist"  # type: ignore[attr-defined]
    assert find_dataset("cifar10").read.hub_id == "uoft-cs/cifar10"  # type: ignore[attr-defined]


def test_without_a_network_the_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: object) -> None:
        raise ConnectionError("Couldn't reach 'ylecun/mnist' on the Hub (ConnectionError)\nsecond line")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError, match="`ylecun/mnist` cannot be read: Couldn't reach .* name a folder that holds it"):
        load("mnist", None)
