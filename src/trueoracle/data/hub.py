"""Image classification sets in the Hugging Face hub's parquet layout, from the hub or from a local folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any

from trueoracle.data.cache import cached
from trueoracle.data.files import files_key
from trueoracle.data.pictures import Picture, Pictures, Pixels
from trueoracle.data.source import RawData
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Progress

# The names that the hub's copies and folders made from them use; the first that is there counts.
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True, kw_only=True)
class HubData:
    """Where a dataset stands and how its rows look; call it to read the pixels.

    `name` is the folder below a user's data folder, `hub_id` the dataset on the hub (None: not there). `test` is the
    split that is tested on; its files begin with that word, as those of the train split with `train`.
    """

    name: str
    hub_id: str | None
    pixels: Pixels
    classes: int
    test: str = "test"

    def __call__(self, data_dir: Path | None, progress: Progress) -> RawData:
        """Both splits, from `data_dir` where one is given, else from the hub. `DataError` if they are not there."""
        if data_dir is None:
            key, splits = self._on_hub()
        else:
            key, splits = self._in_folder(data_dir)
        return cached(f"{self.name}-{key}", self.pixels, splits, self.classes, progress, self.name)

    def _in_folder(self, data_dir: Path) -> tuple[str, dict[str, Pictures]]:
        if not data_dir.is_dir():
            raise DataError(f"the data folder `{data_dir}` does not exist")
        folder = data_dir / self.name
        if not folder.is_dir():
            there = sorted(p.name for p in data_dir.iterdir() if p.is_dir())
            raise DataError(f"`{data_dir}` holds no folder `{self.name}`; it holds {', '.join(there) or 'none'}")
        train, test = (parquet_files(folder, split) for split in ("train", self.test))
        return files_key(folder, [*train, *test]), {"train": in_files(train), "test": in_files(test)}

    def _on_hub(self) -> tuple[str, dict[str, Pictures]]:
        if self.hub_id is None:
            raise DataError(
                f"`{self.name}` is on no hub: name its folder with --data-dir or the variable TRUEORACLE_DATA"
            )
        splits = {"train": _of_hub(self.hub_id, "train"), "test": _of_hub(self.hub_id, self.test)}
        return f"hub-{self.hub_id.replace('/', '--')}", splits


def parquet_files(folder: Path, split: str) -> list[Path]:
    """The files of a split, in order of their names; `DataError` where there are none."""
    files = sorted(folder.rglob(f"{split}*.parquet"))
    if not files:
        raise DataError(f"`{folder}` holds no {split}*.parquet")
    return files


def in_files(files: Sequence[Path], class_of: Callable[[Any], int] = index) -> Pictures:
    """The pictures of local files, one file after another; `class_of` makes a class of what the label column holds."""

    def opened() -> tuple[int, Iterator[Picture]]:
        rows = {file: _rows_in(file) for file in files}
        return sum(rows.values()), chain.from_iterable(_in_file(file, class_of) for file in files if rows[file])

    return opened


def _rows_in(file: Path) -> int:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    try:
        return int(read_metadata(file).num_rows)
    except (OSError, ArrowException) as error:
        raise DataError(f"`{file}` cannot be read: {_one_line(error)}") from error


def values_in(file: Path, name: str) -> list[Any] | None:
    """What one column of a Parquet file holds, or None where there is no such column."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as opened:
            return opened.read([name])[name].to_pylist() if name in opened.schema_arrow.names else None
    except (OSError, ArrowException) as error:
        raise DataError(f"`{file}` cannot be read: {_one_line(error)}") from error


def labels_in(file: Path) -> list[Any]:
    """The labels of a Parquet file; `DataError` where it has none or a row lacks one."""
    for name in _LABEL_COLUMNS:
        labels = values_in(file, name)
        if labels is not None:
            if None in labels:
                raise DataError(f"row {labels.index(None) + 1} of `{file}` has no {name}")
            return labels
    raise DataError(f"`{file}` holds no column `{'` or `'.join(_LABEL_COLUMNS)}`")


def _column(there: Sequence[str], names: Sequence[str], where: str) -> str:
    """The first of `names` that is there; `DataError` where none is."""
    for name in names:
        if name in there:
            return name
    raise DataError(f"{where} holds no column `{'` or `'.join(names)}`; it holds {', '.join(there)}")


def _one_line(error: Exception) -> str:
    """What an error of another library says, cut to its first line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _in_file(file: Path, class_of: Callable[[Any], int]) -> Iterator[Picture]:
    where = f"`{file}`"
    try:
        rows = _load(path="parquet", data_files=[str(file)], split="train", streaming=True)
        yield from _pictures(rows, where, class_of)
    except DataError:
        raise
    except Exception as error:  # whatever the library raises for what it cannot read
        raise DataError(f"{where} cannot be read: {_one_line(error)}") from error


def _of_hub(hub_id: str, split: str) -> Pictures:
    """A split on the hub, downloaded whole once."""

    def opened() -> tuple[int, Iterator[Picture]]:
        try:
            rows = _load(path=hub_id, split=split)
        except Exception as error:  # whatever the library raises where it gets no data
            raise DataError(
                f"`{hub_id}` cannot be read: {_one_line(error)}; without the hub, name a folder that holds it "
                "with --data-dir or TRUEORACLE_DATA"
            ) from error
        return len(rows), _pictures(rows, f"`{hub_id}`, {split}", index)

    return opened


def _load(**which: Any) -> Any:
    import datasets  # seconds to import, so only where something must be decoded

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is said once, by the error
    return datasets.load_dataset(**which)


def _pictures(rows: Any, where: str, class_of: Callable[[Any], int]) -> Iterator[Picture]:
    from datasets import Image

    image, label = (_column(rows.column_names, names, where) for names in (_IMAGE_COLUMNS, _LABEL_COLUMNS))
    rows = rows.cast_column(image, Image(decode=False))  # files not written by the library do not say what it is
    for number, row in enumerate(rows, 1):
        there = f"row {number} of {where}"
        if row[image] is None or row[label] is None:
            raise DataError(f"{there} has no {image if row[image] is None else label}")
        content = row[image]["bytes"]
        yield Picture(
            content=Path(row[image]["path"]) if content is None else content,
            label=class_of(row[label]),
            where=there,
        )
