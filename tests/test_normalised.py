"""Where a normalisation stands over pruned units, the report says so."""

from pathlib import Path

from torch import Tensor, nn

from trueoracle import Study
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape


class Normed(nn.Module):
    """A layer normalisation over the filters that are pruned."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(shape.channels, 6, 8, 8), nn.LayerNorm(6)
        self.head = nn.Linear(6, shape.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x).permute(0, 2, 3, 1)).relu().mean((1, 2)))  # type: ignore[no-any-return]


def test_the_report_says_that_others_are_normalised_anew(tmp_path: Path) -> None:
    changes = {
        "model": "test_normalised:Normed",
        "cells": [{"prune": {"conv": 0.5}, "draw": 4}],
        "repeats": 1,
        **{f"{key}.epochs": 1 for key in ("train", "retrain")},
        **{f"{key}.schedule": "constant" for key in ("train", "retrain")},
        **{f"{key}.milestones": [] for key in ("train", "retrain")},
    }
    store = f"sqlite:///{tmp_path / 'store.db'}"
    study = Study("quickstart", set=changes, store=store, threads=1, progress=Quiet())
    study.run()
    study.report(tmp_path / "page.html")
    assert "conv by norm: without some units the others are normalised anew" in (tmp_path / "page.html").read_text()
