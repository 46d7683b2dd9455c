"""A user's own images, named where a dataset is: a folder of class folders, Parquet files, or a Python factory.

What a catalogue says of a known set is found from the data here: classes, image size, channels. `PATH@SIZE` brings
images of any size to SIZE x SIZE; without it all must have the size of the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np

from trueoracle.data.cache import cached
from trueoracle.data.files import files_key
from trueoracle.data.hub import in_files, labels_in, parquet_files, values_in
from trueoracle.data.pictures import Picture, Pictures, Pixels, is_grey, open_picture
from trueoracle.data.source import RawData, Source
from trueoracle.words.errors import DataError
from trueoracle.words.files import write_whole
from trueoracle.words.folders import cache_folder
from trueoracle.words.plugins import imported
from trueoracle.words.progress import Progress
from trueoracle.words.shape import InputShape

# The names that folders and rows of images have that are for validation.
_VALIDATION = ("validation", "val", "valid")
_LABELS = "labels must be names, or whole numbers in a row from 0, 1 or higher"
_HELD_OUT = 5  # one image of so many of a class is tested on where nobody says which


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Pictures of each split, sorted into classes; `key` changes with the files."""

    splits: dict[str, Pictures]
    classes: int
    key: str


def own_source(name: str) -> Source:
    """The images that `name` leads to: `FOLDER`, `FILE.parquet`, both with `@SIZE` or without, or `module:factory`."""
    if ":" in name and not Path(name).exists():
        return _made_by(name)
    path, size = _path_and_size(name)
    where = Path(path).expanduser()
    found = _found(where)
    pixels = _pixels(found, size, path)
    side = (pixels.height, pixels.width) if size is None else (size, size)
    shape = InputShape(channels=pixels.channels, height=side[0], width=side[1], classes=found.classes)

    def read(_data_dir: Path | None, progress: Progress) -> RawData:
        key = f"own-{found.key}" if size is None else f"own-{found.key}-scaled"
        return cached(key, pixels, found.splits, found.classes, progress, path)

    return Source(shape=shape, read=read)


def stored_size(size: int) -> int:
    """How large images of any size are kept for a network that sees `size`: 256 for 224, as is customary."""
    return size * 8 // 7


def _path_and_size(name: str) -> tuple[str, int | None]:
    path, at, size = name.rpartition("@")
    return (path, int(size)) if at and size.isdigit() and int(size) > 0 else (name, None)


def _made_by(name: str) -> Source:
    made = imported(name, DataError)
    source = made() if callable(made) else made
    if not isinstance(source, Source):
        raise DataError(
            f"`{name}` must be a `trueoracle.data.Source` or a function that returns one, but gives a {type(source).__name__}"
        )
    return source


def _found(where: Path) -> _Found:
    if not where.exists():
        raise DataError(f"the data `{where}` does not exist")
    if where.is_file():
        return _in_one_file(where)
    if (where / "train").is_dir() and (where / "test").is_dir():
        return _in_class_folders(where)
    if any(where.rglob("*.parquet")):
        return _in_parquet(where)
    raise DataError(
        f"`{where}` must hold the folders train and test with a folder for each class, or train*.parquet and "
        f"test*.parquet; it holds {', '.join(sorted(p.name for p in where.iterdir())[:5]) or 'nothing'}"
    )


def _pixels(found: _Found, size: int | None, path: str) -> Pixels:
    """The form of all pictures: grey only if every one is, of the first one's size or the one that was asked for."""
    first = open_picture(next(found.splits["train"]()[1]))
    channels = 1 if is_grey(first) and _all_grey(found) else 3
    if size is None:
        advice = f": name `{path}@SIZE` to bring all to one size"
        return Pixels(channels=channels, height=first.height, width=first.width, native=first.size[::-1], advice=advice)
    kept = stored_size(size)
    return Pixels(channels=channels, height=kept, width=kept, native=None)


def _all_grey(found: _Found) -> bool:
    """Whether no picture knows colours. Of grey ones all are opened to know that, once: it is kept beside their pixels."""
    told = cache_folder() / f"own-{found.key}.colours"
    if told.exists():
        return told.read_text() == "grey"
    pictures = chain.from_iterable(opened()[1] for opened in found.splits.values())
    grey = all(is_grey(open_picture(picture)) for picture in pictures)

    def tell(partial: Path) -> None:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("grey" if grey else "colour")

    write_whole(told, tell, DataError)
    return grey


def _in_class_folders(where: Path) -> _Found:
    folders = {"train": where / "train", "test": where / "test"}
    if named := [where / name for name in _VALIDATION if (where / name).is_dir()]:
        folders["validation"] = _only(named)
    files = {split: _class_files(folder) for split, folder in folders.items()}
    classes = _numbered({split: [*there] for split, there in files.items()}, f"`{where}`")
    splits = {
        split: [
            Picture(content=file, label=classes[name], where=f"`{file}`") for name, own in there.items() for file in own
        ]
        for split, there in files.items()
    }
    every = [file for there in files.values() for own in there.values() for file in own]
    return _Found(
        splits={split: _opened(there) for split, there in splits.items()},
        classes=len(classes),
        key=files_key(where, every),
    )


def _class_files(split: Path) -> dict[str, list[Path]]:
    """The files of each class; hidden ones are left out, and every other one must be an image."""
    files: dict[str, list[Path]] = {}
    for folder in sorted(p for p in split.iterdir() if not p.name.startswith(".")):
        if not folder.is_dir():
            raise DataError(f"`{folder}` must be a folder with the images of one class")
        files[folder.name] = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not files[folder.name]:
            raise DataError(f"`{folder}` holds no images")
    if not files:
        raise DataError(f"`{split}` holds no class folders")
    return files


def _in_parquet(where: Path) -> _Found:
    files = {split: parquet_files(where, split) for split in ("train", "test")}
    if held_out := sorted(where.rglob("val*.parquet")):
        files["validation"] = held_out
    classes = _numbered(
        {split: [label for file in there for label in labels_in(file)] for split, there in files.items()}, f"`{where}`"
    )
    return _Found(
        splits={split: in_files(there, classes.__getitem__) for split, there in files.items()},
        classes=len(classes),
        key=files_key(where, [file for there in files.values() for file in there]),
    )


def _in_one_file(file: Path) -> _Found:
    labels = labels_in(file)
    rows = _rows(file, labels)
    classes = _numbered({split: list(compress(labels, chosen)) for split, chosen in rows.items()}, f"`{file}`")
    pictures = in_files([file], classes.__getitem__)
    return _Found(
        splits={split: _chosen(pictures, chosen) for split, chosen in rows.items()},
        classes=len(classes),
        key=files_key(file.parent, [file]),
    )


def _rows(file: Path, labels: Sequence[Any]) -> dict[str, list[bool]]:
    """Which rows each split has: as a column `split` says, else a fifth of each class to test on, always the same."""
    splits = values_in(file, "split")
    if splits is not None:
        if others := set(splits) - {"train", "test", *_VALIDATION}:
            raise DataError(
                f"the column `split` of `{file}` must hold train, test or validation, but holds {min(map(str, others))}"
            )
        named = {"train": ("train",), "test": ("test",), "validation": _VALIDATION}
        rows = {name: [split in words for split in splits] for name, words in named.items()}
        return {name: chosen for name, chosen in rows.items() if name != "validation" or any(chosen)}
    tested = [False] * len(labels)
    for label in dict.fromkeys(labels):
        own_rows = [row for row, own in enumerate(labels) if own == label]
        if len(own_rows) < 2:
            raise DataError(f"`{file}` holds one image of class {label}: two are needed, one of them to test on")
        for row in np.random.default_rng(0).permutation(own_rows)[: max(1, len(own_rows) // _HELD_OUT)]:
            tested[row] = True
    return {"train": [not one for one in tested], "test": tested}


def _numbered(labels_of: Mapping[str, Sequence[Any]], where: str) -> dict[Any, int]:
    """From a label to the number of its class from 0: names in alphabetical order, numbers in theirs.

    Every class must be in train and test; a validation split may lack some.
    """
    labels = set(labels_of["train"])
    for split, other in (("train", "test"), ("test", "train"), ("validation", "train")):
        if alone := set(labels_of.get(split, ())) - set(labels_of[other]):
            raise DataError(
                f"class {min(alone, key=str)} of {where} is in the {split} split and not in the {other} split"
            )
    if len(labels) < 2:
        raise DataError(f"{where} must hold two classes or more, but holds {len(labels)}")
    if all(isinstance(label, str) for label in labels):
        return {name: number for number, name in enumerate(sorted(labels))}
    for row, label in enumerate(labels_of["train"], 1):
        if not isinstance(label, int | float) or label < 0 or not float(label).is_integer():
            raise DataError(f"{_LABELS}, but train image {row} of {where} has the label {label!r}")
    first = int(min(labels))
    for number in range(first, first + len(labels)):
        if number not in labels:
            raise DataError(f"{_LABELS}, but {where} has labels from {first} to {int(max(labels))} without {number}")
    return {first + number: number for number in range(len(labels))}


def _only(folders: Sequence[Path]) -> Path:
    if len(folders) > 1:
        raise DataError(f"`{folders[0]}` and `{folders[1]}` are two validation splits: there must be one")
    return folders[0]


def _opened(pictures: Sequence[Picture]) -> Pictures:
    return lambda: (len(pictures), iter(pictures))


def _chosen(pictures: Pictures, chosen: Sequence[bool]) -> Pictures:
    return lambda: (sum(chosen), compress(pictures()[1], chosen))
