"""What several tests share: small data, a trained small study, and nobody's cache or store but their own."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from trueoracle import Study
from trueoracle.progress import Quiet

TINY = {
    "train.epochs": 3,
    "train.milestones": [2],
    "retrain.epochs": 2,
    "retrain.milestones": [1],
    "repeats": 2,
    "cells": [{"prune": {"conv1": 0.5}, "draw": 6}, {"prune": {"conv3": 0.2}, "draw": 4}],
}

SHARED = Path(__file__).parents[2] / "shared" / "data"


def cifar10_part(folder: Path, images: int) -> None:
    """The first real pictures of CIFAR-10 as a data folder: decoding all 60,000 takes a minute."""
    (folder / "cifar10").mkdir()
    for split in ("train", "test"):
        rows = pq.ParquetFile(SHARED / "cifar10" / f"{split}.parquet").iter_batches(images)
        pq.write_table(pa.Table.from_batches([next(rows)]), folder / "cifar10" / f"{split}.parquet")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of compiled kernels for all tests and all processes that run them: compiling takes seconds."""
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "kernels"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.mktemp("cache")
    (cache / "kernels").symlink_to(kernels)
    monkeypatch.setenv("TRUEORACLE_CACHE", str(cache))
    monkeypatch.delenv("TRUEORACLE_DATA", raising=False)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A tiny study on the digits, run to its end: 2 cells, 10 masks, 20 trials."""
    store = f"sqlite:///{tmp_path_factory.mktemp('finished') / 'store.db'}"
    study = Study("quickstart", set=TINY, store=store, threads=2, progress=Quiet())
    study.run()
    return study
