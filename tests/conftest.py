"""What several tests share: small data, a trained small study, and nobody's cache or store but their own."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright

from trueoracle import Study
from trueoracle.words.progress import Quiet

SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip

TINY = {
    "train.epochs": 3,
    "train.milestones": [2],
    "retrain.epochs": 2,
    "retrain.milestones": [1],
    "repeats": 2,
    "cells": [{"prune": {"conv1": 0.5}, "draw": 6}, {"prune": {"conv3": 0.2}, "draw": 4}],
}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A data folder with real MNIST, CIFAR-10 and the published points, beside the checkout: no part of the project.

    Tests that need it are skipped where it is not, but never in CI.
    """
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"`{folder}` is missing")
        pytest.skip("the real data is not part of the project")
    return folder


@pytest.fixture(scope="session")
def cifar10_part(real_data: Path) -> Callable[[Path, int], None]:
    """Writes the first real pictures of CIFAR-10 into a data folder: decoding all 60,000 takes a minute."""

    def write(folder: Path, images: int) -> None:
        (folder / "cifar10").mkdir()
        for split in ("train", "test"):
            rows = pq.ParquetFile(real_data / "cifar10" / f"{split}.parquet").iter_batches(images)
            pq.write_table(pa.Table.from_batches([next(rows)]), folder / "cifar10" / f"{split}.parquet")

    return write


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Without it no page is tested, but never so in CI."""
    chromium = shutil.which("chromium")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no `chromium`: Debian's package is called so")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        yield browser
        browser.close()
