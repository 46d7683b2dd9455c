"""What the files of the public table hold: every column with its type, unit, split and direction, in one place.

Letters in types: a list holds one value a site, a unit or an image.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from trueoracle.analysis.metric import known

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]
Direction = Literal["", "lower is better", "higher is better"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column. `split` names the images that a figure is of; `direction` is empty where nothing is better or worse."""

    name: str
    type: pa.DataType
    says: str
    unit: str = ""
    split: str = ""
    direction: Direction = ""

    @property
    def described(self) -> str:
        """All of it in a sentence."""
        return "; ".join(filter(None, (self.says, self.unit and f"unit: {self.unit}",
                                       self.split and f"split: {self.split}", self.direction)))  # fmt: skip


def _figures(prefix: str, moment: str, kind: pa.DataType, splits: tuple[str, ...]) -> tuple[Column, ...]:
    found = []
    for split in splits:
        found.append(Column(name=f"{prefix}{split}_loss", type=kind, says=f"mean cross-entropy {moment}", unit="nats",
                            split=split, direction="lower is better"))  # fmt: skip
        found.append(Column(name=f"{prefix}{split}_accuracy", type=kind, says=f"share of images answered right {moment}",
                            unit="share in [0, 1]", split=split, direction="higher is better"))  # fmt: skip
    return tuple(found)


_SPLITS = ("train", "validation", "test")
_BITS = pa.list_(pa.bool_())
_INTS = pa.list_(pa.int32())

_STUDY = Column(name="study", type=pa.string(), says="name of the study")
_BASE = Column(name="base", type=pa.int32(), says="number of the base network within the study, from 0")
_CELL = Column(name="cell", type=pa.string(), says="which sites are pruned, and at which ratio")
_MASK = Column(
    name="mask",
    type=pa.int64(),
    says="rank of the mask in the cell's mask space, its name; decimal text where ranks outgrow 64 bits",
)
_REPEAT = Column(name="repeat", type=pa.int32(), says="number of the retraining, from 0: another order of the images")
_MASKED = (_STUDY, _BASE, _CELL, _MASK)
_COSTS = (
    Column(name="parameters", type=pa.int64(), says="weights of the network", unit="numbers"),
    Column(name="macs", type=pa.int64(), says="multiply-accumulate operations for one image", unit="operations"),
)
_SECONDS = Column(
    name="seconds",
    type=pa.float64(),
    says="time of one thread for the training, by the clock: a network's share of its fleet's, longer where the machine was busy",
    unit="seconds",
)

FILES: dict[str, tuple[Column, ...]] = {
    "networks": (
        _STUDY,
        _BASE,
        *_figures("", "of the dense network", pa.float64(), _SPLITS),
        *_COSTS,
        Column(name="classes", type=pa.int32(), says="number of classes"),
        Column(name="data_fingerprint", type=pa.string(), says="hash of the images and labels trained and tested on"),
        _SECONDS,
        Column(name="weights", type=pa.binary(), says="the trained weights: bytes of a safetensors file"),
        *(
            Column(name=f"{split}_right", type=_BITS, says="whether the dense network answers each image right", split=split)
            for split in ("validation", "test")
        ),
    ),
    "cells": (
        _STUDY,
        _BASE,
        _CELL,
        Column(name="sites", type=pa.list_(pa.string()), says="the pruned sites, in the order of a mask's lists"),
        Column(name="units", type=_INTS, says="units of each site before pruning"),
        Column(name="kept", type=_INTS, says="units that each site keeps"),
        Column(name="space", type=pa.string(), says="how many masks there are, in decimal digits"),
        Column(name="masks", type=pa.int64(), says="how many of them are in the study"),
        *_COSTS,
    ),
    "masks": (
        *_MASKED,
        Column(name="kept", type=pa.list_(_INTS), says="the units that stay, a list a site"),
        Column(name="pruned_train_loss", type=pa.float64(), says="mean cross-entropy before retraining", unit="nats",
               split="train", direction="lower is better"),
        Column(name="pruned_train_accuracy", type=pa.float64(), says="share of images answered right before retraining",
               unit="share in [0, 1]", split="train", direction="higher is better"),
        Column(name="standard_error", type=pa.float64(), unit="nats",
               says="of `pruned_train_loss`; 0 where it was taken on the whole split"),
        Column(name="searched", type=pa.bool_(), says="whether a search found the mask: it is none of a random sample"),
        Column(name="sampling_weight", type=pa.float64(), says="how many masks it stands for in a sample stratified over the loss; else empty"),
    ),
    "scores": _MASKED,
    "trials": (
        *_MASKED,
        _REPEAT,
        Column(name="seed", type=pa.int64(), says="of the order of the images, shared by the masks of a base network and repeat"),
        Column(name="outcome", type=pa.string(), says="finished, or how else the training ended"),
        *_figures("final_", "after retraining", pa.float64(), _SPLITS),
        _SECONDS,
    ),
    "curves": (
        *_MASKED,
        _REPEAT,
        Column(name="epoch", type=pa.int32(), says="number of the epoch, from 1"),
        *_figures("", "after the epoch, rounded to 32 bits", pa.float32(), _SPLITS),
    ),
    "answers": (
        *_MASKED,
        _REPEAT,
        Column(name="split", type=pa.string(), says="test or validation"),
        Column(name="right", type=_BITS, says="whether the retrained network answers each image right, in one order throughout"),
    ),
}  # fmt: skip
"""File -> its columns. `scores` has a column for every score of the study's masks beside them: see `score`."""

KEY = {
    "networks": ["base"],
    "cells": ["base", "cell"],
    "masks": ["base", "cell", "mask"],
    "scores": ["base", "cell", "mask"],
    "trials": ["base", "cell", "mask", "repeat"],
    "curves": ["base", "cell", "mask", "repeat", "epoch"],
    "answers": ["base", "cell", "mask", "repeat", "split"],
}
"""File -> the columns that name a row within a study."""


def score(name: str) -> Column:
    """The column of a score: what `docs/criteria.md` calls by this name, with the direction that its name says."""
    direction = known(name)
    return Column(
        name=name,
        type=pa.float64(),
        says="a criterion's or predictor's score of the mask, before retraining",
        direction="" if direction is None else direction.value,
    )


def records(frame: "pd.DataFrame") -> Rows:
    """A frame's rows, each by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def schema(file: str, scores: tuple[str, ...] = (), *, ranks_as_text: bool = False) -> pa.Schema:
    """The Arrow schema of a file, every column's meaning in its metadata."""
    columns = (*FILES[file], *(score(name) for name in scores))
    if ranks_as_text:
        columns = tuple(replace(one, type=pa.string()) if one is _MASK else one for one in columns)
    return pa.schema([pa.field(one.name, one.type, metadata={"description": one.described}) for one in columns])
