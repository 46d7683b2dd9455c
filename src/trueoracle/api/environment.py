"""What there is to work with: cores, devices, data folders, versions."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from trueoracle.store import DEFAULT_URL, shown_url
from trueoracle.words.errors import SpecError, StoreError
from trueoracle.words.known import check_device
from trueoracle.words.release import release

if TYPE_CHECKING:
    import torch


def default_data_dir() -> Path | None:
    """The folder that the variable TRUEORACLE_DATA names, if any."""
    named = os.environ.get("TRUEORACLE_DATA")
    return Path(named) if named else None


def threads_or_all(threads: int | None) -> int:
    """`threads`, or as many as the processor cores that this process may use."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise SpecError(f"`threads` must be at least 1, but got {threads}")
    return threads


def find_device(name: str) -> "torch.device":
    """`cpu` or `cuda`; `SpecError` where there is no such device.

    Of a GPU, float32 is made to mean float32: left alone, torch rounds convolutions there to TF32.
    """
    check_device(name)
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("`device` cuda was asked for, but torch finds no GPU here")
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(name)


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def doctor(store: str = DEFAULT_URL, data_dir: str | Path | None = None) -> dict[str, str]:
    """Versions, devices, the data at hand and whether the store can be reached: name -> one line."""
    import platform
    from importlib.metadata import version

    import torch

    from trueoracle.lanes import target

    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    packages = ("torch", "transformers", "datasets", "scipy", "sqlalchemy")
    return {
        "python": platform.python_version(),
        "trueoracle": release(),
        **{name: version(name) for name in packages},
        "cores": str(threads_or_all(None)),
        "vectors": str(target()),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none found",
        "data": _data_at_hand(folder),
        "store": _store_state(store),
    }


def _data_at_hand(folder: Path | None) -> str:
    if folder is None:
        return "digits, others from the hub; name a folder with --data-dir or TRUEORACLE_DATA"
    if not folder.is_dir():
        return f"`{folder}` does not exist"
    from trueoracle.data import DATASETS

    there = sorted(name for name in DATASETS if (folder / name).is_dir())
    return f"digits, and in `{folder}`: {', '.join(there) or 'none known'}"


def _store_state(url: str) -> str:
    from trueoracle.store import Store

    try:
        return f"{shown_url(url)}, {len(Store(url).studies())} studies"
    except StoreError as error:
        return str(error)
