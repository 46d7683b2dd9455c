"""Where questions and answers come from: parquet files of a folder, the hub, or the labelled pictures of CIFAR-10."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from trueoracle.data.datasets import find_dataset
from trueoracle.data.source import RawSplit
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Progress

_CIFAR10 = "cifar10"
_CLASSES = (
    "an airplane", "a car", "a bird", "a cat", "a deer", "a dog", "a frog", "a horse", "a ship", "a truck",
)  # fmt: skip
_ANIMALS = range(2, 8)
# The names that well-known sets use; the first that is there counts.
_PICTURES = ("image", "img")
_QUESTIONS = ("question",)
_ANSWERS = ("answer", "multiple_choice_answer")
_SPLITS = {"train": ("train",), "test": ("test", "validation")}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A question, its answer, and the file of the picture that it is about, if any."""

    question: str
    answer: str
    picture: bytes | None


class Rows(Protocol):
    """The rows of one split."""

    @property
    def where(self) -> str:
        """Where they stand, for messages."""
        ...

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def at(self, places: Sequence[int]) -> Iterator[Row]:
        """Those at these places, which rise; others are not decoded. `DataError` for one that is no question."""
        ...


def rows_of(name: str, split: str, data_dir: Path | None, progress: Progress) -> Rows:
    """`cifar10`, a folder (its path, or one of that name in the data folder), else a set of the hub."""
    if name == _CIFAR10:
        raw = find_dataset(name).read(data_dir, progress)
        return AboutPictures(raw.train if split == "train" else raw.test)
    folder = Path(name).expanduser()
    if not folder.is_dir() and data_dir is not None:
        folder = data_dir / name
        if not folder.is_dir():
            raise DataError(f"there is no folder `{name}`, here or in `{data_dir}`")
    return _in_folder(folder, split) if folder.is_dir() else _on_hub(name, split)


@dataclass(frozen=True)
class AboutPictures:
    """About every other picture of CIFAR-10 is asked what it shows, about the rest whether that is an animal."""

    pictures: RawSplit
    where: str = "`qa:cifar10`"

    @property
    def count(self) -> int:
        """A question a picture."""
        return len(self.pictures.labels_N)

    def at(self, places: Sequence[int]) -> Iterator[Row]:
        """As `Rows.at`."""
        for place in places:
            label = int(self.pictures.labels_N[place])
            pixels_HWC = self.pictures.images_NCHW[place].permute(1, 2, 0).numpy()
            file = BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels_HWC)).save(file, "PNG")
            if place % 2:
                question, answer = "Is it an animal?", "yes" if label in _ANIMALS else "no"
            else:
                question, answer = "What is in the picture?", _CLASSES[label]
            yield Row(question=question, answer=answer, picture=file.getvalue())


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of `datasets` with a column for questions, one for answers and, where there are pictures, one for them."""

    table: Any
    where: str
    count: int
    question: str
    answer: str
    picture: str | None

    def at(self, places: Sequence[int]) -> Iterator[Row]:
        """As `Rows.at`."""
        found = self._found(places)
        for place in places:
            try:
                row = next(found)
            except Exception as error:  # whatever the library raises for what it cannot read
                raise DataError(f"{self.where} cannot be read: {_one_line(error)}") from error
            for column in (self.question, self.answer):
                if not isinstance(row[column], str):
                    raise DataError(f"{self.where}, row {place}: `{column}` must be text, but is {row[column]!r}")
            picture = None if self.picture is None else _content(row[self.picture])
            yield Row(question=row[self.question], answer=row[self.answer], picture=picture)

    def _found(self, places: Sequence[int]) -> Iterator[dict[str, Any]]:
        if hasattr(self.table, "select"):
            return iter(self.table.select(list(places)))
        wanted = frozenset(places)
        return (row for place, row in enumerate(self.table) if place in wanted)


def _in_folder(folder: Path, split: str) -> Table:
    from pyarrow.parquet import read_metadata

    wanted = _SPLITS[split]
    files = next((found for name in wanted if (found := sorted(map(str, folder.rglob(f"{name}*.parquet"))))), None)
    if files is None:
        raise DataError(f"`{folder}` holds no {' or '.join(f'{name}*.parquet' for name in wanted)}")
    where = f"`{', '.join(files)}`"
    try:
        count = sum(read_metadata(file).num_rows for file in files)
    except Exception as error:
        raise DataError(f"{where} cannot be read: {_one_line(error)}") from error
    # Streamed, a local file is read as it stands and not copied into a cache first.
    return _table(where, count, path="parquet", data_files=files, split="train", streaming=True)


def _on_hub(name: str, split: str) -> Table:
    from datasets import get_dataset_split_names

    try:
        there = get_dataset_split_names(name)
    except Exception as error:  # whatever the hub raises
        raise DataError(
            f"`{name}` is no folder, and on the hub it cannot be read: {_one_line(error)}; name a folder that holds it"
        ) from error
    known = next((known for known in _SPLITS[split] if known in there), None)
    if known is None:
        raise DataError(f"`{name}` has no split {' or '.join(_SPLITS[split])}; it has {', '.join(there)}")
    return _table(f"`{name}` ({known})", None, path=name, split=known)


def _table(where: str, count: int | None, **source: Any) -> Table:
    from datasets import Image as ImageFeature  # seconds to import
    from datasets import load_dataset

    try:
        table = load_dataset(**source)
    except Exception as error:  # whatever the library raises for what it cannot read
        raise DataError(f"{where} cannot be read: {_one_line(error)}") from error
    columns = list(table.column_names)
    picture = next((name for name in _PICTURES if name in columns), None)
    if picture is not None:
        table = table.cast_column(picture, ImageFeature(decode=False))
    return Table(
        table=table,
        where=where,
        count=len(table) if count is None else count,
        question=_column(columns, _QUESTIONS, where),
        answer=_column(columns, _ANSWERS, where),
        picture=picture,
    )


def _column(there: list[str], names: tuple[str, ...], where: str) -> str:
    for name in names:
        if name in there:
            return name
    raise DataError(f"{where} has no column `{'` or `'.join(names)}`; it has {', '.join(there)}")


def _content(value: Any) -> bytes | None:
    """A picture's file; None where a row has no picture."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        return None
    return bytes(value["bytes"]) if value["bytes"] is not None else Path(value["path"]).read_bytes()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
