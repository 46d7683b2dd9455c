"""What is damaged on disk is refused or made again, and never another number."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from trueoracle import Study
from trueoracle.api import write_parts, write_table
from trueoracle.data import load_dataset
from trueoracle.store import Store
from trueoracle.words.errors import StoreError
from trueoracle.words.folders import cache_folder
from trueoracle.words.progress import Quiet


def flip(path: Path, content: bytes, chance: random.Random, most: int) -> None:
    damaged = bytearray(content)
    for _ in range(chance.randint(1, most)):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    path.write_bytes(damaged)


def test_bits_flipped_in_a_store_are_refused_or_harmless(finished: Study, tmp_path: Path) -> None:
    whole = Path(finished.store_url.removeprefix("sqlite:///")).read_bytes()
    calm = finished.trials(), finished.curves()
    path, chance = tmp_path / "store.db", random.Random(1)
    refused = 0
    for _ in range(80):
        flip(path, whole, chance, 20)
        try:
            store = Store(f"sqlite:///{path}")
            found = store.trial_table(finished.plan.digest), store.curve_table(finished.plan.digest)
        except StoreError:
            refused += 1
        else:
            for mine, right in zip(found, calm, strict=True):
                pd.testing.assert_frame_equal(mine, right, check_exact=True)
    assert 40 < refused < 80


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("UPDATE runs SET versions = replace(versions, ':', ';')", "the file of .* is damaged: take it from a copy"),
        ("UPDATE studies SET spec = replace(spec, ':', ';')", "a row of `studies` is not as it was written"),
        (
            "UPDATE studies SET spec = replace(spec, '\"lr\": 0.', '\"lr\": 1.')",
            "a row of `studies` is not as it was written",
        ),
    ],
)
def test_words_without_a_checksum_are_not_believed_either(
    change: str, rule: str, finished: Study, tmp_path: Path
) -> None:
    import sqlite3
    from contextlib import closing

    path = tmp_path / "store.db"
    path.write_bytes(Path(finished.store_url.removeprefix("sqlite:///")).read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(change).rowcount > 0
    with pytest.raises(StoreError, match=rule):
        Study.stored("quickstart", store=f"sqlite:///{path}").status()


def test_a_row_that_an_index_has_lost_is_noticed(finished: Study, tmp_path: Path) -> None:
    """No checksum of a row tells that a row is not there."""
    import sqlite3
    from contextlib import closing

    path = tmp_path / "store.db"
    path.write_bytes(Path(finished.store_url.removeprefix("sqlite:///")).read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_trials_1'"
        ).fetchone()
        connection.execute("PRAGMA journal_mode = DELETE")
    content = bytearray(path.read_bytes())
    begin = (page - 1) * size
    assert content[begin] == 10  # a leaf: bytes 3 and 4 say how many entries it has
    content[begin + 4] -= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged .*: take it from a copy"):
        Store(f"sqlite:///{path}").trial_table(finished.plan.digest)


def test_decoded_pictures_that_are_damaged_are_decoded_again(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.fromarray(numbers.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{index}.png")
    right = load_dataset(str(tmp_path / "pictures"), None, torch.device("cpu"), Quiet())
    files = [path for path in cache_folder().glob("own-*/*") if path.is_file()]
    assert {path.name for path in files} == {"facts.json", "train.pixels", "train.labels", "test.pixels", "test.labels"}
    chance = random.Random(2)
    for path in files * 2:
        content = path.read_bytes()
        flip(path, content, chance, 1)
        assert path.read_bytes() != content
        found = load_dataset(str(tmp_path / "pictures"), None, torch.device("cpu"), Quiet())
        assert path.read_bytes() == content
        assert torch.equal(found.train.images_NCHW, right.train.images_NCHW)
        assert torch.equal(found.test.labels_N, right.test.labels_N)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_written_in_parts_is_the_whole_table(finished: Study, tmp_path: Path, ending: str) -> None:
    store, digest = Store(finished.store_url), finished.plan.digest
    paths = [tmp_path / f"{name}.{ending}" for name in ("parts", "whole")]
    assert write_parts(store.trial_parts(digest, 7), store.largest_rank(digest), paths[0]) == 20
    write_table(store.trial_table(digest), paths[1])
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    pd.testing.assert_frame_equal(*map(read, paths), check_exact=True)  # type: ignore[arg-type]
