"""Decoded pixels on disk, so that a dataset is decoded once a machine and not once a run.

A folder a dataset: for each split its pixels and its classes as bare bytes, and `facts.json`, which says how to read
them. Pixels are never read whole here but mapped, so that a set may be larger than the memory.

Letters: N images, C channels, H x W pixels.
"""

import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueoracle.data.normalisation import Levels, Normalisation
from trueoracle.data.pictures import Picture, Pictures, Pixels
from trueoracle.data.source import RawData, RawSplit
from trueoracle.words.errors import DataError
from trueoracle.words.folders import cache_folder
from trueoracle.words.progress import Advance, Progress

T = TypeVar("T")

_VERIFIED_BYTES = (
    2**30
)  # a set up to here is read whole and held against its fingerprint at every start: a second or two
_AT_ONCE, _GROUPS = 64, 16  # pictures that a thread decodes in one go; groups that are in memory


def cached(
    key: str, pixels: Pixels, splits: dict[str, Pictures], classes: int, progress: Progress, what: str
) -> RawData:
    """The data kept under `key`, else decoded from `splits` (train, test, for some sets validation) and kept for the next time.

    A folder that was damaged is made anew. `DataError` where a picture cannot be read or its class is none of
    `classes`, or where the cache cannot be written; nothing is kept then.
    """
    folder = cache_folder() / f"{key}-{pixels.channels}x{pixels.height}x{pixels.width}"
    try:
        return _read(folder, pixels)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        rmtree(folder, ignore_errors=True)
    _make(folder, pixels, splits, classes, progress, what)
    return _read(folder, pixels)


def _read(folder: Path, pixels: Pixels) -> RawData:
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    data = RawData(
        train=_mapped(folder / "train", facts["train"], pixels),
        test=_mapped(folder / "test", facts["test"], pixels),
        fingerprint=facts["fingerprint"],
        validation=_mapped(folder / "validation", facts["validation"], pixels) if "validation" in facts else None,
        normalisation=Normalisation(**{key: tuple(value) for key, value in facts["normalisation"].items()}),
    )
    if facts["checksum"] != _checksum(facts) or _fingerprint(folder, facts) not in (None, facts["fingerprint"]):
        raise ValueError(f"`{folder}` is damaged")
    return data


def _fingerprint(folder: Path, facts: dict[str, Any]) -> str | None:
    """Of what lies in the folder; None for a set that is too large to be read at every start."""
    files = [folder / f"{split}.{kind}" for split in facts["splits"] for kind in ("pixels", "labels")]
    if sum(file.stat().st_size for file in files) > _VERIFIED_BYTES:
        return None
    digest = sha256()
    for file in files:
        digest.update(np.memmap(file, np.uint8, "r").data)
    return digest.hexdigest()


def _checksum(facts: dict[str, Any]) -> str:
    """Over everything else that is known of the set."""
    known = {key: value for key, value in facts.items() if key != "checksum"}
    return sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path, count: int, pixels: Pixels) -> RawSplit:
    shape = (count, pixels.channels, pixels.height, pixels.width)
    return RawSplit(
        images_NCHW=_map(path.with_suffix(".pixels"), torch.uint8, shape),
        labels_N=_map(path.with_suffix(".labels"), torch.int64, (count,)),
    )


def _map(path: Path, kind: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    size = int(np.prod(shape))
    if path.stat().st_size != size * kind.itemsize:
        raise ValueError(f"`{path}` is damaged")
    return torch.from_file(str(path), shared=False, size=size, dtype=kind).view(shape)


def _make(
    folder: Path, pixels: Pixels, splits: dict[str, Pictures], classes: int, progress: Progress, what: str
) -> None:
    """Decode into a folder beside `folder`, which it becomes once it is whole."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _decode(partial, pixels, splits, classes, progress, what)
            if not folder.exists():  # else another process was first
                partial.rename(folder)
        finally:
            rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"decoded images cannot be kept in `{folder.parent}` ({error.strerror or error}): "
            "name another folder by the variable TRUEORACLE_CACHE"
        ) from error


def _decode(
    folder: Path, pixels: Pixels, splits: dict[str, Pictures], classes: int, progress: Progress, what: str
) -> None:
    digest, levels = sha256(), Levels(pixels.channels)
    facts: dict[str, Any] = {}
    with ThreadPoolExecutor() as pool:
        for split, pictures in splits.items():
            labels: list[int] = []
            count, each = pictures()
            with (
                (folder / f"{split}.pixels").open("wb") as file,
                progress.task(f"decoding {what} {split}", count, "images") as advance,
            ):
                for images_NCHW in _decoded(each, pixels, classes, labels, pool, advance):
                    file.write(images_NCHW.tobytes())
                    digest.update(images_NCHW.tobytes())
                    if split == "train":
                        levels.add(images_NCHW)
            if not labels:
                raise DataError(f"the {split} split of `{what}` holds no images")
            labels_N = np.asarray(labels, dtype=np.int64)
            labels_N.tofile(folder / f"{split}.labels")
            digest.update(labels_N.tobytes())
            facts[split] = len(labels)
    facts |= {
        "splits": list(splits),
        "fingerprint": digest.hexdigest(),
        "normalisation": asdict(levels.normalisation()),
    }
    facts["checksum"] = _checksum(facts)
    (folder / "facts.json").write_text(json.dumps(facts))


def _decoded(
    pictures: Iterator[Picture], pixels: Pixels, classes: int, labels: list[int], pool: Executor, advance: Advance
) -> Iterator[NDArray[np.uint8]]:
    """Groups of decoded pictures in their order; their classes are appended to `labels`."""

    def decode(group: list[Picture]) -> NDArray[np.uint8]:
        return np.stack([pixels.of(picture) for picture in group])

    groups = _in_groups(pictures, _AT_ONCE)
    for several in _in_groups(groups, _GROUPS):
        for group, images_NCHW in zip(several, pool.map(decode, several), strict=True):
            for picture in group:
                if not 0 <= picture.label < classes:
                    raise DataError(f"{picture.where} holds label {picture.label}, but there are {classes} classes")
                labels.append(picture.label)
            yield images_NCHW
            advance(len(group))


def _in_groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while group := list(islice(items, size)):
        yield group
