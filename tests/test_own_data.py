"""Images of one's own: class folders, Parquet files and factories; what is found from them, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trueoracle import Study, StudySpec
from trueoracle.cli.app import main
from trueoracle.data import Dataset, Split, StoredSplit, find_dataset, load_dataset
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Quiet

CPU = torch.device("cpu")


def load(name: str) -> Dataset:
    return load_dataset(name, None, CPU, Quiet())


def picture(level: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Image.Image:
    """One level everywhere but a black pixel in the corner, so that nothing is constant."""
    image = Image.new(mode, size, (level,) * 3 if mode == "RGB" else level)
    image.putpixel((0, 0), (0, 0, 0) if mode == "RGB" else 0)
    return image


def encoded(image: Image.Image) -> dict[str, object]:
    content = io.BytesIO()
    image.save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders: 2 cats and 1 dog to train on, one of each to test on; 6 pixels wide, 4 high."""
    folder = tmp_path / "photos"
    for place, level in {
        "train/cat/a": 10,
        "train/cat/b": 20,
        "train/dog/c": 200,
        "test/cat/d": 30,
        "test/dog/e": 210,
    }.items():
        file = folder / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(level).save(file)
    return folder


def test_a_folder_of_class_folders_is_a_dataset(photos: Path) -> None:
    (photos / "train" / "cat" / ".hidden").write_text("of an operating system")
    shape = find_dataset(str(photos)).shape
    assert (shape.channels, shape.height, shape.width, shape.classes) == (3, 4, 6, 2)
    data = load(str(photos))
    assert (data.train.labels_N.tolist(), data.test.labels_N.tolist()) == ([0, 0, 1], [0, 1])
    assert isinstance(data.train, Split)


def test_the_mean_and_the_deviation_are_those_of_the_train_pixels(photos: Path) -> None:
    data = load(str(photos))
    # In each channel: 23 pixels of each of 10, 20 and 200 out of 255, and three black ones.
    mean = 23 * (10 + 20 + 200) / 72 / 255
    square = 23 * (10**2 + 20**2 + 200**2) / 72 / 255**2
    assert data.normalisation is not None
    assert data.normalisation.mean == pytest.approx((mean,) * 3, rel=1e-12)
    assert data.normalisation.deviation == pytest.approx(((square - mean**2) ** 0.5,) * 3, rel=1e-12)
    assert data.train.images_NCHW.mean() == pytest.approx(0, abs=1e-6)
    assert data.train.images_NCHW.std(correction=0) == pytest.approx(1, abs=1e-6)
    assert data.test.images_NCHW[0, 1, 3, 5].item() == pytest.approx((30 / 255 - mean) / (square - mean**2) ** 0.5)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, level in (("one", 50), ("two", 150)):
            (tmp_path / split / name).mkdir(parents=True)
            picture(level, mode="L").save(tmp_path / split / name / "x.png")
    data = load(str(tmp_path))
    assert data.train.images_NCHW.shape == (2, 1, 4, 6)


@pytest.mark.parametrize("place", ["train/two/0.png", "train/two/y.png", "test/two/y.png"])
def test_one_coloured_image_makes_a_set_of_coloured_ones(tmp_path: Path, place: str) -> None:
    for split in ("train", "test"):
        for name, level in (("one", 50), ("two", 150)):
            (tmp_path / split / name).mkdir(parents=True)
            picture(level, mode="L").save(tmp_path / split / name / "x.png")
    assert find_dataset(str(tmp_path)).shape.channels == 1
    picture(1).save(tmp_path / place)
    data = load(str(tmp_path))
    assert data.train.images_NCHW.shape[1] == 3
    grey = data.train.images_NCHW[0] * 1.0
    assert grey.shape == (3, 4, 6)


def test_grey_rgba_palette_and_cmyk_pictures_lie_side_by_side(tmp_path: Path) -> None:
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    palette = red.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.info["transparency"] = bytes([128])
    pictures = {
        "grey.png": picture(9, mode="L"), "la.png": picture(9, mode="L").convert("LA"), "rgba.png": red.convert("RGBA"),
        "palette.png": palette, "palette.gif": red.convert("P", palette=Image.Palette.ADAPTIVE),
        "cmyk.tif": red.convert("CMYK"), "bits.png": Image.new("1", (6, 4), 1),
    }  # fmt: skip
    for split in ("train", "test"):
        for name in ("one", "two"):
            (tmp_path / split / name).mkdir(parents=True)
            for file, image in pictures.items():
                image.save(tmp_path / split / name / file)
    data = load(str(tmp_path))
    assert data.shape.channels == 3
    assert data.normalisation is not None
    mean, deviation = (
        torch.tensor(of)[:, None, None] for of in (data.normalisation.mean, data.normalisation.deviation)
    )
    images = (data.train.images_NCHW * deviation + mean) * 255
    order = sorted(pictures)
    for file in ("rgba.png", "palette.png", "palette.gif", "cmyk.tif"):
        assert torch.allclose(images[order.index(file)].mean((1, 2)), torch.tensor([255.0, 0, 0]), atol=2)


@pytest.mark.parametrize("content", [b"", b"no image", None])
@pytest.mark.parametrize("place", ["train/cat/a.png", "train/dog/z.png", "test/dog/e.png"])
def test_one_broken_file_is_named(photos: Path, place: str, content: bytes | None) -> None:
    file = photos / place
    file.write_bytes((photos / "train/cat/b.png").read_bytes()[:60] if content is None else content)
    with pytest.raises(DataError, match=f"`.*{place}`") as problem:
        load(str(photos))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("labels", [(1, 2), (0, 1), (7, 8), (3.0, 4.0)])
def test_numbers_in_a_row_are_classes_in_their_order(tmp_path: Path, labels: tuple[float, float]) -> None:
    rows = [(level, label) for level, label in zip((10, 20, 30, 40), labels * 2, strict=True)]
    pq.write_table(table(rows, split=["train", "train", "test", "test"]), tmp_path / "x.parquet")
    data = load(str(tmp_path / "x.parquet"))
    assert data.shape.classes == 2
    assert data.train.labels_N.tolist() == data.test.labels_N.tolist() == [0, 1]


def test_images_of_any_size_are_brought_to_the_size_that_is_named(photos: Path) -> None:
    Image.fromarray(np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)).save(photos / "train" / "dog" / "z.png")
    data = load(f"{photos}@14")
    assert (data.shape.height, data.shape.width) == (14, 14)
    assert isinstance(data.train, StoredSplit)
    assert data.train.pixels_NCHW.shape == (4, 3, 16, 16)
    # By hand: the short side 20 becomes 16, the long one 32; the middle 16x16 is kept, of which a network sees 14x14.
    scaled = Image.open(photos / "train" / "dog" / "z.png").resize((32, 16), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.array(scaled)[:, 8:24]).permute(2, 0, 1)
    assert torch.equal(data.train.pixels_NCHW[3], wanted)
    assert data.normalisation is not None
    seen = data.normalisation.undo(data.train.take(slice(3, 4)).loaded().images_NCHW) * 255
    torch.testing.assert_close(seen[0], wanted[:, 1:15, 1:15].float(), rtol=0, atol=1e-4)


def test_what_was_scaled_once_is_not_taken_for_what_has_one_size(photos: Path) -> None:
    picture(5, (16, 16)).save(photos / "train" / "cat" / "a.png")  # the first, of the size that @14 scales all to
    assert load(f"{photos}@14").shape.width == 14
    with pytest.raises(DataError, match="train/cat/b.png` has 6x4 pixels, not 16x16"):
        load(str(photos))


def table(rows: list[tuple[int, object]], **more: list[str]) -> pa.Table:
    images = [encoded(picture(level)) for level, _ in rows]
    return pa.table({"image": images, "label": [label for _, label in rows], **more})


def test_a_parquet_file_may_say_which_rows_are_tested_on(tmp_path: Path) -> None:
    rows = [(10, "dog"), (20, "cat"), (30, "dog"), (40, "cat")]
    pq.write_table(table(rows, split=["test", "test", "train", "train"]), tmp_path / "x.parquet")
    data = load(str(tmp_path / "x.parquet"))
    assert (data.train.labels_N.tolist(), data.test.labels_N.tolist()) == ([1, 0], [1, 0])
    assert data.normalisation is not None
    levels = data.normalisation.undo(data.train.images_NCHW)[:, 0, 2, 2] * 255
    assert levels.tolist() == pytest.approx([30, 40], abs=1e-3)


def test_else_a_fifth_of_each_class_is_held_out_always_the_same(tmp_path: Path) -> None:
    rows = [(10 + n, n % 2) for n in range(24)]
    pq.write_table(table(rows), tmp_path / "x.parquet")
    data = load(str(tmp_path / "x.parquet"))
    assert torch.bincount(data.train.labels_N).tolist() == [10, 10]
    assert torch.bincount(data.test.labels_N).tolist() == [2, 2]
    assert load(str(tmp_path / "x.parquet")).fingerprint == data.fingerprint


def test_a_folder_of_parquet_files_is_a_dataset(tmp_path: Path) -> None:
    pq.write_table(table([(10, 1), (20, 0)]), tmp_path / "train-0.parquet")
    pq.write_table(table([(30, 0)]), tmp_path / "train-1.parquet")
    pq.write_table(table([(40, 0), (50, 1)]), tmp_path / "test-0.parquet")
    data = load(str(tmp_path))
    assert (data.train.labels_N.tolist(), data.test.labels_N.tolist()) == ([1, 0, 0], [0, 1])


FACTORY = """
import torch
from trueoracle.data import RawData, RawSplit, Source
from trueoracle.words.shape import InputShape

def read(data_dir, progress):
    images = torch.arange(2 * 64, dtype=torch.uint8).view(2, 1, 8, 8)
    split = RawSplit(images_NCHW=images, labels_N=torch.tensor([0, 1]))
    return RawData(train=split, test=split)

shape = InputShape(channels=1, height=8, width=8, classes=2)
RAMPS = Source(shape=shape, read=read)

def ramps():
    return RAMPS

def wrong():
    return 3

def large(data_dir, progress):
    data = read(data_dir, progress)
    return RawData(train=data.train, test=RawSplit(images_NCHW=data.test.images_NCHW, labels_N=torch.tensor([0, 2])))

LARGE = Source(shape=shape, read=large)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"ramps_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize("thing", ["RAMPS", "ramps"])
def test_a_module_may_hold_a_source_or_make_one(module: str, thing: str) -> None:
    data = load(f"{module}:{thing}")
    assert data.train.images_NCHW.shape == (2, 1, 8, 8)
    assert data.normalisation is not None
    assert data.normalisation.mean == pytest.approx((63.5 / 255,))
    assert data.normalisation.deviation == pytest.approx((((128**2 - 1) / 12) ** 0.5 / 255,))


def test_a_module_of_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ramps_here.py").write_text(FACTORY)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    monkeypatch.chdir(tmp_path)
    assert load("ramps_here:RAMPS").shape.classes == 2


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("absent", "cannot be imported: module .* has no attribute 'absent'"),
        ("wrong", "must be a `trueoracle.data.Source` or a function that returns one, but gives a int"),
        ("LARGE", "the test split of .* must hold int64 labels from 0 to 1, but holds .* from 0 to 2"),
    ],
)
def test_a_factory_that_is_none_is_one_clear_line(module: str, thing: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as problem:
        load(f"{module}:{thing}")
    assert "\n" not in str(problem.value)


def spoil_nothing(photos: Path) -> None:
    for file in photos.rglob("*.png"):
        file.unlink()
    for folder in sorted(photos.rglob("*"), reverse=True):
        folder.rmdir()


def no_test_split(photos: Path) -> None:
    (photos / "test").rename(photos / "validation")


def empty_class(photos: Path) -> None:
    (photos / "train" / "cow").mkdir()


def class_in_train_only(photos: Path) -> None:
    (photos / "train" / "cow").mkdir()
    picture(5).save(photos / "train" / "cow" / "x.png")


def class_in_test_only(photos: Path) -> None:
    (photos / "test" / "cow").mkdir()
    picture(5).save(photos / "test" / "cow" / "x.png")


def one_class(photos: Path) -> None:
    for split in ("train", "test"):
        for file in (photos / split / "dog").iterdir():
            file.unlink()
        (photos / split / "dog").rmdir()


def other_size(photos: Path) -> None:
    picture(5, (7, 4)).save(photos / "test" / "dog" / "x.png")


def no_image(photos: Path) -> None:
    (photos / "test" / "dog" / "notes.txt").write_text("good dogs")


def broken_off(photos: Path) -> None:
    file = photos / "train" / "cat" / "b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:90])


def file_beside_classes(photos: Path) -> None:
    picture(5).save(photos / "train" / "stray.png")


def all_alike(photos: Path) -> None:
    for file in (photos / "train").rglob("*.png"):
        Image.new("RGB", (6, 4), (9, 9, 9)).save(file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_nothing, "photos` must hold the folders train and test .* it holds nothing"),
        (no_test_split, "photos` must hold the folders train and test .* it holds train, validation"),
        (empty_class, "train/cow` holds no images"),
        (class_in_train_only, "class cow of `.*photos` is in the train split and not in the test split"),
        (class_in_test_only, "class cow of `.*photos` is in the test split and not in the train split"),
        (one_class, "photos` must hold two classes or more, but holds 1"),
        (other_size, "test/dog/x.png` has 7x4 pixels, not 6x4: name `.*photos@SIZE` to bring all to one size"),
        (no_image, "test/dog/notes.txt` is no image of a known format"),
        (broken_off, "train/cat/b.png` cannot be read"),
        (file_beside_classes, "train/stray.png` must be a folder with the images of one class"),
        (all_alike, "all pixels of a channel of the train images of `.*photos` are alike"),
    ],
)
def test_a_folder_that_is_no_dataset_is_one_clear_line(
    photos: Path, spoil: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEORACLE_CACHE", str(tmp_path / "cache"))
    spoil(photos)  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as problem:
        load(str(photos))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        (
            [(1, 0), (2, 3)] * 2,
            {},
            "labels must be names, or whole numbers in a row .* has labels from 0 to 3 without 1",
        ),
        ([(1, -1), (2, 1)] * 2, {}, r"whole numbers in a row .* but train image 1 of .*x.parquet` has the label -1"),
        ([(1, 0.5), (2, 1.0)] * 2, {}, r"train image 1 of .* has the label 0.5"),
        ([(1, 0), (2, 0), (3, 1)], {}, "holds one image of class 1: two are needed, one of them to test on"),
        ([(1, "a"), (2, None)], {}, "row 2 of `.*x.parquet` has no label"),
        ([(1, 0), (2, 1)], {"split": ["train", "holdout"]}, "must hold train, test or validation, but holds holdout"),
        ([(1, 0), (2, 1)], {"split": ["train", "test"]}, "class 0 of .* is in the train split and not in the test"),
    ],
)
def test_a_parquet_file_that_is_no_dataset_is_one_clear_line(
    tmp_path: Path, rows: list[tuple[int, object]], more: dict[str, list[str]], message: str
) -> None:
    pq.write_table(table(rows, **more), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message) as problem:
        load(str(tmp_path / "x.parquet"))
    assert "\n" not in str(problem.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data `.*nowhere` does not exist"):
        load(f"{tmp_path}/nowhere")
    with pytest.raises(
        DataError, match="unknown dataset `photos`: .* images of your own are named by a path such as ./photos"
    ):
        load("photos")
    pq.write_table(pa.table({"image": [1], "klass": [2]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="holds no column `label` or `fine_label`"):
        load(f"{tmp_path}/x.parquet")


def study_on(data: str) -> StudySpec:
    recipe = {"optimiser": "sgd", "lr": 0.01, "batch_size": 4, "epochs": 1}
    return StudySpec.model_validate(
        {
            "name": "own",
            "model": "lenet5-mini",
            "data": data,
            "train": recipe,
            "retrain": recipe | {"augmentation": {"flip": True, "crop_padding": 2}},
            "cells": [{"prune": {"conv1": 0.9}, "draw": 2}],
            "repeats": 1,
            "final": "last",
        }
    )


def test_a_study_runs_on_a_folder_of_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        folder = tmp_path / "photos" / ("train" if number < 6 else "test") / f"class-{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    store = f"sqlite:///{tmp_path}/s.db"
    study = Study(study_on(f"{tmp_path}/photos"), store=store, threads=1, backend="loop", progress=Quiet())
    status = study.run()
    assert status.finished == status.total == 2


def test_bad_data_leaves_no_store_and_exit_code_2(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_image(photos)
    spec = study_on(f"{photos}@32")
    file = tmp_path / "own.yaml"
    file.write_text(str(spec.model_dump_json(exclude_defaults=True, by_alias=True)))
    monkeypatch.setattr("sys.argv", ["trueoracle", "run", str(file), "--store", f"sqlite:///{tmp_path}/s.db"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "notes.txt` is no image of a known format" in " ".join(lines[-3:])
    assert not (tmp_path / "s.db").exists()
