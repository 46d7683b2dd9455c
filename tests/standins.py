"""Data for studies whose own is not at hand: other pictures in the same parquet layout, with as many classes.

What is there is linked as it is. Fashion-MNIST and KMNIST are stood in for by the 10,000 test images of KMNIST,
CIFAR-100 and ImageNet-1K by pictures of CIFAR-10 whose classes are split by their place, ImageNet's scaled up. Numbers
found on them say that a study runs, and nothing else.
"""

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Picture = dict[str, object]


def data_folder(shared: Path, folder: Path) -> Path:
    """`folder` with every dataset that a built-in study names, made from the real ones in `shared`."""
    for name in ("mnist", "cifar10", "kmnist10k"):
        (folder / name).symlink_to(shared / name)
    for name in ("kmnist", "fashion-mnist"):
        (folder / name).symlink_to(shared / "kmnist10k")
    _copied(shared / "cifar10", folder / "cifar100", {"train": "train", "test": "test"}, 600, 100, _as_it_is)
    _copied(shared / "cifar10", folder / "imagenet-1k", {"train": "train", "test": "validation"}, 200, 1000, _enlarged)
    return folder


def _copied(
    source: Path, target: Path, splits: dict[str, str], rows: int, classes: int, change: Callable[[Picture], Picture]
) -> None:
    target.mkdir()
    for split, name in splits.items():
        table = next(pq.ParquetFile(source / f"{split}.parquet").iter_batches(rows))
        labels = [
            classes // 10 * label + place // 10 % (classes // 10)
            for place, label in enumerate(table["label"].to_pylist())
        ]
        images = [change(image) for image in table["image"].to_pylist()]
        pq.write_table(pa.table({"image": images, "label": labels}), target / f"{name}-00000-of-00001.parquet")


def _as_it_is(image: Picture) -> Picture:
    return image


def _enlarged(image: Picture) -> Picture:
    """256x256 pixels: ImageNet's pictures have any size, its networks take the middle of them."""
    content = io.BytesIO()
    small = Image.open(io.BytesIO(image["bytes"]))  # type: ignore[arg-type]
    small.resize((256, 256), Image.Resampling.BILINEAR).save(content, "JPEG")
    return {"bytes": content.getvalue(), "path": None}
