"""The public names, as a script or a notebook uses them."""

import pkgutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import trueoracle
from trueoracle.nets import build
from trueoracle.words.progress import Quiet
from trueoracle.words.release import release
from trueoracle.words.shape import InputShape


def test_no_public_name_is_that_of_a_room() -> None:
    """Importing the room would put it in the name's place."""
    rooms = {room.name for room in pkgutil.iter_modules(trueoracle.__path__)}
    assert not rooms & set(trueoracle.__all__)
    assert all(hasattr(trueoracle, name) for name in trueoracle.__all__)


def test_a_source_tree_that_nobody_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert release() == version("trueoracle")

    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("trueoracle.words.release.version", unknown)
    assert release() == "source, not installed"


def test_pruned_losses_are_a_table_again_and_again(tmp_path: Path) -> None:
    net = build("lenet5-mini", InputShape(channels=1, height=32, width=32, classes=10), seed=1)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    tables = [
        trueoracle.pruned_losses(
            "lenet5-mini", tmp_path / "w.safetensors", "digits", {"conv2": 0.2}, path=path, progress=Quiet()
        )
        for path in ("exact", "exact", "batched")
    ]
    assert list(tables[0]) == ["mask", "pruned", "pruned_train_loss", "pruned_train_accuracy"]
    assert len(tables[0]) == 45
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    pd.testing.assert_frame_equal(tables[0], tables[2], rtol=1e-5)
    assert torch.get_num_threads() == 1
