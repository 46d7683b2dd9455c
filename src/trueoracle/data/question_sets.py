"""Sets of questions and answers, on pictures or without, for language models.

A study names one as `qa:NAME`: a folder of parquet files or a hub id, with columns `question`, `answer` and, where the
questions are about pictures, `image`; or `qa:cifar10`, which asks about the pictures of CIFAR-10.
"""

from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trueoracle.data.datasets import find_dataset
from trueoracle.data.noised import names_noise, noise_shape
from trueoracle.data.question_rows import Rows, rows_of
from trueoracle.data.questions import Questions
from trueoracle.data.reader import Read, Reader, padded, reader
from trueoracle.data.split import Dataset
from trueoracle.nets import llava_mini
from trueoracle.words.errors import DataError
from trueoracle.words.progress import Advance, Progress
from trueoracle.words.shape import Shape, TextShape

_PREFIX = "qa:"
_MODEL_PREFIX = "hf:"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Which questions are read: `train` and `test` of each split, drawn by `seed` (None: all), as `model` reads them.

    Those that are not drawn are not decoded at all, for few sets of questions on pictures fit into memory.
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
    if names_noise(name):
        return noise_shape(name)
    return TextShape() if names_questions(name) else find_dataset(name).shape


def load_questions(name: str, drawn: Drawn, data_dir: Path | None, device: torch.device, progress: Progress) -> Dataset:
    """The set `qa:...` as a model reads it, onto `device`; its fingerprint is the SHA-256 of tokens and pixels.

    `DataError` for a model that reads no text, and for a set, column or row that is not as it should be.
    """
    read = _reader(name, drawn.model)
    splits: list[Questions] = []
    for split, most, seed in (("train", drawn.train, drawn.seed), ("test", drawn.test, drawn.seed + 1)):
        rows = rows_of(name.removeprefix(_PREFIX), split, data_dir, progress)
        places = _drawn(rows, most, seed, split)
        with progress.task(f"reading the {split} questions", len(places), "questions") as advance:
            splits.append(_read(rows, places, read, device, advance))
    return Dataset(name=name, shape=TextShape(), train=splits[0], test=splits[1], fingerprint=_fingerprint(splits))


def _reader(name: str, model: str) -> Reader:
    if model == llava_mini.NAME:
        return reader(str(llava_mini.llava_mini_folder()))
    if model.startswith(_MODEL_PREFIX):
        return reader(model.removeprefix(_MODEL_PREFIX))
    raise DataError(
        f"`{name}` asks questions, which {llava_mini.NAME} or a language model such as hf:OWNER/NAME reads, not "
        f"`{model}`"
    )


def _drawn(rows: Rows, most: int | None, seed: int, split: str) -> list[int]:
    """The places of all rows, or of `most` drawn ones, rising."""
    if rows.count == 0:
        raise DataError(f"{rows.where} holds no rows")
    if most is None:
        return list(range(rows.count))
    if most > rows.count:
        raise DataError(f"`{split}_images` must be at most {rows.count}, all that {rows.where} has, but got {most}")
    chosen: list[int] = np.sort(np.random.default_rng(seed).permutation(rows.count)[:most]).tolist()
    return chosen


def _read(rows: Rows, places: list[int], read: Reader, device: torch.device, advance: Advance) -> Questions:
    found: list[Read] = []
    album = _Album(read)
    for place, row in zip(places, rows.at(places), strict=True):
        try:
            album.add(row.picture)
            found.append(read.read(row.question, row.answer, row.picture is not None))
        except DataError as error:
            raise DataError(f"{rows.where}, row {place}: {error}") from None
        advance(1)
    pictures, picture_N = album.tensors(device)
    return Questions(
        tokens_NT=padded([one.tokens for one in found], device),
        begins_N=torch.tensor([one.begins for one in found], device=device),
        ends_N=torch.tensor([len(one.tokens) for one in found], device=device),
        pictures_PCHW=pictures,
        picture_N=picture_N,
    )


class _Album:
    """Pictures, each kept once however many questions are about it."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._places: dict[bytes, int] = {}
        self._pixels: list[Tensor] = []
        self._seen: list[int] = []
        self._blind = 0

    def add(self, content: bytes | None) -> None:
        """The picture of the next question; `DataError` where it cannot be decoded, or some have one and some none."""
        if content is None:
            self._blind += 1
        else:
            self._seen.append(self._place(content))
        if self._blind and self._seen:
            raise DataError("all questions must be about pictures or none, but this is the first that differs")

    def _place(self, content: bytes) -> int:
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
        """All pictures, and which one each question is about."""
        if not self._pixels:
            return None, None
        return torch.stack(self._pixels).to(device), torch.tensor(self._seen, device=device)


def _fingerprint(splits: list[Questions]) -> str:
    digest = sha256()
    for split in splits:
        for tensor in vars(split).values():
            if tensor is not None:
                digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
