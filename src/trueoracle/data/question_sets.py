"""Sets of questions and answers in the hub's layout: columns `question`, `answer` and, for questions on pictures,
`image`. A study names one as `qa:NAME`: a folder (a path, or one in the data folder) of parquet files, or a hub id.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trueoracle.data.catalogue import find_dataset
from trueoracle.data.questions import Questions
from trueoracle.data.reader import Read, Reader, padded, reader
from trueoracle.data.split import Dataset
from trueoracle.errors import DataError
from trueoracle.progress import Progress
from trueoracle.shape import Shape, TextShape

_PREFIX = "qa:"
_MODEL_PREFIX = "hf:"
# The names that well-known sets use; the first that is there counts.
_PICTURES = ("image", "img")
_QUESTIONS = ("question",)
_ANSWERS = ("answer", "multiple_choice_answer")
_TEST_SPLITS = ("test", "validation")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where a split's rows come from, as `datasets.load_dataset` takes it, and how many there are (None: not known)."""

    source: dict[str, Any]
    count: int | None
    where: str


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Which questions are read: `train` and `test` of each split, drawn by `seed` (None: all), as `model` reads them.

    Those that are not drawn are not read at all, for few sets of questions on pictures fit into memory.
    """

    model: str = ""
    train: int | None = None
    test: int | None = None
    seed: int = 0


def names_questions(name: str) -> bool:
    """Whether a dataset of this name holds questions for a language model."""
    return name.startswith(_PREFIX)


def dataset_shape(name: str) -> Shape:
    """What a network is given of the dataset called `name`; `DataError` if there is none."""
    return TextShape() if names_questions(name) else find_dataset(name).shape


def load_questions(name: str, drawn: Drawn, data_dir: Path | None, device: torch.device, progress: Progress) -> Dataset:
    """The set `qa:...` as a model reads it, onto `device`.

    `DataError` for a model that reads no text, and for a set, column or row that is not as it should be.
    """
    if not drawn.model.startswith(_MODEL_PREFIX):
        raise DataError(
            f"`{name}` asks questions, which a language model such as hf:OWNER/NAME reads, not `{drawn.model}`"
        )
    read = reader(drawn.model.removeprefix(_MODEL_PREFIX))
    splits = {}
    digest = sha256()
    for number, (split, most) in enumerate((("train", drawn.train), ("test", drawn.test))):
        rows = _rows(name.removeprefix(_PREFIX), split, data_dir)
        splits[split] = _read_split(rows, read, most, drawn.seed + number, split, device, progress)
        for tensor in vars(splits[split]).values():
            if tensor is not None:
                digest.update(tensor.cpu().numpy().tobytes())
    return Dataset(
        name=name, shape=TextShape(), train=splits["train"], test=splits["test"], fingerprint=digest.hexdigest()
    )


def _rows(name: str, split: str, data_dir: Path | None) -> Rows:
    """A path, else a folder of the data folder, else the hub."""
    folder = Path(name).expanduser()
    if not folder.is_dir() and data_dir is not None:
        folder = data_dir / name
        if not folder.is_dir():
            raise DataError(f"`{data_dir}` holds no folder `{name}`")
    if folder.is_dir():
        return _in_folder(folder, split)
    return _on_hub(name, split)


def _in_folder(folder: Path, split: str) -> Rows:
    from pyarrow.parquet import read_metadata

    wanted = ("train",) if split == "train" else _TEST_SPLITS
    files = next((found for name in wanted if (found := sorted(map(str, folder.rglob(f"{name}*.parquet"))))), None)
    if files is None:
        raise DataError(f"`{folder}` holds no {' or '.join(f'{name}*.parquet' for name in wanted)}")
    try:
        count = sum(read_metadata(file).num_rows for file in files)
    except Exception as error:
        raise DataError(f"`{', '.join(files)}` cannot be read: {error}") from error
    source = {"path": "parquet", "data_files": files, "split": "train", "streaming": True}
    return Rows(source=source, count=count, where=f"`{', '.join(files)}`")


def _on_hub(name: str, split: str) -> Rows:
    from datasets import get_dataset_split_names

    wanted = ("train",) if split == "train" else _TEST_SPLITS
    try:
        there = get_dataset_split_names(name)
    except Exception as error:  # whatever the hub raises
        problem = " ".join(str(error).split())[:300]
        raise DataError(
            f"`{name}` is no folder, and on the hub it cannot be read: {problem}; name a folder that holds it with "
            "--data-dir or TRUEORACLE_DATA"
        ) from error
    for known in wanted:
        if known in there:
            return Rows(source={"path": name, "split": known}, count=None, where=f"`{name}` ({known})")
    raise DataError(f"`{name}` has no split {' or '.join(wanted)}; it has {', '.join(there)}")


def _read_split(
    rows: Rows, read: Reader, most: int | None, seed: int, split: str, device: torch.device, progress: Progress
) -> Questions:
    found: list[Read] = []
    album = _Album(read)
    for number, row in _drawn(rows, most, seed, split, progress):
        try:
            picture = row.picture if row.picture is None else album.place(row.picture)
            found.append(read.read(row.question, row.answer, picture is not None))
            album.seen.append(picture)
        except DataError as error:
            raise DataError(f"{rows.where}, row {number}: {error}") from None
    if not found:
        raise DataError(f"{rows.where} holds no rows")
    pictures, picture_N = album.tensors(device)
    return Questions(
        tokens_NT=padded([one.tokens for one in found], device),
        begins_N=torch.tensor([one.begins for one in found], device=device),
        ends_N=torch.tensor([len(one.tokens) for one in found], device=device),
        pictures_PCHW=pictures,
        picture_N=picture_N,
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    question: str
    answer: str
    picture: bytes | None


def _drawn(rows: Rows, most: int | None, seed: int, split: str, progress: Progress) -> Iterator[tuple[int, _Row]]:
    """The rows' numbers and contents, all or `most` drawn ones, in their order."""
    from datasets import Image as ImageFeature  # seconds to import
    from datasets import load_dataset

    try:
        table = load_dataset(**rows.source)
        columns = table.column_names
        question, answer = _column(columns, _QUESTIONS, rows), _column(columns, _ANSWERS, rows)
        picture = next((name for name in _PICTURES if name in columns), None)
        if picture is not None:
            table = table.cast_column(picture, ImageFeature(decode=False))
        count = len(table) if rows.count is None else rows.count
    except DataError:
        raise
    except Exception as error:  # whatever the library raises for what it cannot read
        raise DataError(f"{rows.where} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if most is not None and not 1 <= most <= count:
        raise DataError(f"`{split}_images` must lie in [1, {count}] for {rows.where}, but got {most}")
    chosen = np.arange(count) if most is None else np.sort(np.random.default_rng(seed).permutation(count)[:most])
    wanted = frozenset(chosen.tolist())
    numbered: Iterator[tuple[int, dict[str, Any]]] = (
        ((number, row) for number, row in enumerate(table) if number in wanted)
        if rows.source.get("streaming")
        else zip(chosen.tolist(), table.select(chosen), strict=True)
    )
    with progress.task(f"reading the {split} questions", len(chosen), "questions") as advance:
        for number, row in numbered:
            for column in (question, answer):
                if not isinstance(row[column], str):
                    raise DataError(f"{rows.where}, row {number}: `{column}` must be text, but is {row[column]!r}")
            yield (
                number,
                _Row(question=row[question], answer=row[answer], picture=_bytes(row[picture]) if picture else None),
            )
            advance(1)


def _column(there: list[str], names: tuple[str, ...], rows: Rows) -> str:
    for name in names:
        if name in there:
            return name
    raise DataError(f"{rows.where} has no column `{'` or `'.join(names)}`; it has {', '.join(there)}")


def _bytes(value: Any) -> bytes | None:
    """A picture's file; None where a row has no picture."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        return None
    return bytes(value["bytes"]) if value["bytes"] is not None else Path(value["path"]).read_bytes()


class _Album:
    """Pictures, each kept once however many questions are about it."""

    def __init__(self, read: Reader) -> None:
        self.seen: list[int | None] = []
        self._read = read
        self._places: dict[bytes, int] = {}
        self._pixels: list[Tensor] = []

    def place(self, content: bytes) -> int:
        """The picture's place; `DataError` where it cannot be decoded."""
        key = sha256(content).digest()
        if key not in self._places:
            try:
                picture = Image.open(BytesIO(content))
                picture.load()
            except Exception as error:  # whatever a decoder raises
                raise DataError(f"the picture cannot be decoded: {error}") from error
            self._places[key] = len(self._pixels)
            self._pixels.append(self._read.pixels(picture))
        return self._places[key]

    def tensors(self, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """All pictures, and which one each question is about; `DataError` where some questions are about none."""
        if not self._pixels:
            return None, None
        if None in self.seen:
            raise DataError(f"all questions must be about a picture or none, but row {self.seen.index(None)} has none")
        return torch.stack(self._pixels).to(device), torch.tensor(self.seen, device=device)
