"""Image classification sets in the Hugging Face hub's parquet layout, from the hub or from a local folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trueoracle.data.cache import cached
from trueoracle.data.source import RawData, RawSplit
from trueoracle.errors import DataError
from trueoracle.progress import Progress
from trueoracle.shape import InputShape

# The names that the hub's copies and folders made from them use; the first that is there counts.
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True, kw_only=True)
class HubData:
    """Where a dataset stands and how its rows look; call it to read the pixels.

    `name` is the folder below a user's data folder, `hub_id` the dataset on the hub (None: not there).
    Images must be of size `native` (height, width); PIL scales them bilinearly to the network's size.
    """

    name: str
    hub_id: str | None
    shape: InputShape
    native: tuple[int, int]

    def __call__(self, data_dir: Path | None, progress: Progress) -> RawData:
        """Both splits, from `data_dir` where one is given, else from the hub. `DataError` if they are not there."""
        if data_dir is None:
            key, sources = self._on_hub()
        else:
            key, sources = self._in_folder(data_dir)
        return cached(
            f"{self.name}-{self.shape.height}x{self.shape.width}-{key}",
            lambda: RawData(
                train=self._decode(sources["train"], "train", progress),
                test=self._decode(sources["test"], "test", progress),
            ),
        )

    def _in_folder(self, data_dir: Path) -> tuple[str, dict[str, dict[str, Any]]]:
        if not data_dir.is_dir():
            raise DataError(f"the data folder `{data_dir}` does not exist")
        folder = data_dir / self.name
        if not folder.is_dir():
            there = sorted(p.name for p in data_dir.iterdir() if p.is_dir())
            raise DataError(f"`{data_dir}` holds no folder `{self.name}`; it holds {', '.join(there) or 'none'}")
        digest = sha256()
        sources: dict[str, dict[str, Any]] = {}
        for split in ("train", "test"):
            files = sorted(folder.rglob(f"{split}*.parquet"))
            if not files:
                raise DataError(f"`{folder}` holds no {split}*.parquet")
            for file in files:
                digest.update(file.read_bytes())
            sources[split] = {"path": "parquet", "data_files": [str(f) for f in files], "split": "train"}
        return digest.hexdigest()[:16], sources

    def _on_hub(self) -> tuple[str, dict[str, dict[str, Any]]]:
        if self.hub_id is None:
            raise DataError(
                f"`{self.name}` is on no hub: name its folder with --data-dir or the variable TRUEORACLE_DATA"
            )
        sources = {split: {"path": self.hub_id, "split": split} for split in ("train", "test")}
        return f"hub-{self.hub_id.replace('/', '--')}", sources

    def _decode(self, source: dict[str, Any], split: str, progress: Progress) -> RawSplit:
        from datasets import Image as ImageFeature  # seconds to import, so only where something must be decoded
        from datasets import load_dataset

        images: list[np.ndarray] = []
        labels: list[int] = []
        try:
            # A local file is read as it stands, a hub's is downloaded whole once.
            rows = load_dataset(**source, streaming=source["path"] == "parquet")
            image, label = (_column(rows.column_names, names) for names in (_IMAGE_COLUMNS, _LABEL_COLUMNS))
            rows = rows.cast_column(image, ImageFeature())  # files not written by the library do not say so
            total = getattr(rows, "num_rows", None) or _rows_in(source)
            with progress.task(f"decoding {self.name} {split}", total, "images") as advance:
                for row in rows:
                    images.append(self._pixels(row[image]))
                    labels.append(int(row[label]))
                    advance(1)
        except DataError:
            raise
        except Exception as error:  # whatever the library or a decoder raises for what it cannot read
            raise DataError(
                f"{self._where(source)} cannot be read: {_one_line(error)}{self._advice(source)}"
            ) from error
        return self._checked(images, labels, source)

    def _pixels(self, image: Image.Image) -> np.ndarray:
        height, width = self.native
        if image.size != (width, height):
            raise DataError(
                f"`{self.name}` holds an image of {image.size[0]}x{image.size[1]} pixels, not {width}x{height}"
            )
        image = image.convert("L" if self.shape.channels == 1 else "RGB")
        wanted = (self.shape.width, self.shape.height)
        if image.size != wanted:
            image = image.resize(wanted, Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(self.shape.height, self.shape.width, -1)

    def _checked(self, images: list[np.ndarray], labels: list[int], source: dict[str, Any]) -> RawSplit:
        if not images:
            raise DataError(f"{self._where(source)} holds no rows")
        wrong: Iterable[int] = (label for label in labels if not 0 <= label < self.shape.classes)
        if (label := next(iter(wrong), None)) is not None:
            raise DataError(
                f"{self._where(source)} holds label {label}, but `{self.name}` has {self.shape.classes} classes"
            )
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return RawSplit(images_NCHW=pixels, labels_N=torch.tensor(labels))

    def _where(self, source: dict[str, Any]) -> str:
        return f"`{', '.join(source.get('data_files', [source['path']]))}`"

    def _advice(self, source: dict[str, Any]) -> str:
        if source["path"] == "parquet":
            return ""
        return "; without the hub, name a folder that holds it with --data-dir or TRUEORACLE_DATA"


def _column(there: list[str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in there:
            return name
    raise DataError(f"there is no column `{'` or `'.join(names)}`; there are {', '.join(there)}")


def _rows_in(source: dict[str, Any]) -> int:
    from pyarrow.parquet import read_metadata

    return sum(read_metadata(file).num_rows for file in source["data_files"])


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
