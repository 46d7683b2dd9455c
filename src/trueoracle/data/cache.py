"""Decoded pixels on disk, so that a dataset is decoded once a machine and not once a run."""

from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from trueoracle.data.source import RawData, RawSplit
from trueoracle.folders import cache_folder


def cached(key: str, read: Callable[[], RawData]) -> RawData:
    """The data kept under `key`, else what `read` brings, kept for the next time.

    A file that was damaged is read anew; a folder that cannot be written costs the keeping only.
    """
    path = cache_folder() / f"{key}.safetensors"
    try:
        tensors = load_file(path)
        return RawData(
            train=RawSplit(images_NCHW=tensors["train.images"], labels_N=tensors["train.labels"]),
            test=RawSplit(images_NCHW=tensors["test.images"], labels_N=tensors["test.labels"]),
        )
    except (OSError, SafetensorError, KeyError):
        data = read()
    _keep(path, data)
    return data


def _keep(path: Path, data: RawData) -> None:
    content = save(
        {
            "train.images": data.train.images_NCHW,
            "train.labels": data.train.labels_N,
            "test.images": data.test.images_NCHW,
            "test.labels": data.test.labels_N,
        }
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)  # whole or not at all
    except OSError:
        return
