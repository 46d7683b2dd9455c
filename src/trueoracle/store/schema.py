"""The tables. Ranks are decimal text, padded so that text order is numeric order: they outgrow 64 bits."""

from sqlalchemy import Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

VERSION = 2
APPLICATION = "trueoracle"

metadata = MetaData()


def _figures(*, nullable: bool = False) -> list[Column[float]]:
    """Losses and accuracies on both splits; absent where a trial has none."""
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return [Column(name, Float, nullable=nullable) for name in names]


meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

studies = Table(
    "studies",
    metadata,
    Column("digest", String, primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("spec", Text, nullable=False),
)

bases = Table(
    "bases",
    metadata,
    Column("study", ForeignKey("studies.digest"), primary_key=True),
    Column("base", Integer, primary_key=True),
    Column("weights", LargeBinary, nullable=False),
    *_figures(),
    Column("parameters", Integer, nullable=False),
    Column("macs", Integer, nullable=False),
    Column("classes", Integer, nullable=False),
    Column("data_fingerprint", String, nullable=False),
    Column("seconds", Float, nullable=False),
)

cells = Table(
    "cells",
    metadata,
    Column("study", ForeignKey("studies.digest"), primary_key=True),
    Column("cell", Integer, primary_key=True),
    Column("base", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("sites", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("masks", Integer, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("macs", Integer, nullable=False),
)

masks = Table(
    "masks",
    metadata,
    Column("study", ForeignKey("studies.digest"), primary_key=True),
    Column("cell", Integer, primary_key=True),
    Column("rank", Text, primary_key=True),
    Column("pruned", Text, nullable=False),
    Column("loss", Float, nullable=False),
    Column("accuracy", Float, nullable=False),
    Column("standard_error", Float, nullable=False),
    Column("scores", Text, nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("study", ForeignKey("studies.digest"), primary_key=True),
    Column("cell", Integer, primary_key=True),
    Column("rank", Text, primary_key=True),
    Column("repeat", Integer, primary_key=True),
    Column("seed", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("error", Text, nullable=False),
    *_figures(nullable=True),
    Column("seconds", Float, nullable=False),
)

curves = Table(
    "curves",
    metadata,
    Column("study", ForeignKey("studies.digest"), primary_key=True),
    Column("cell", Integer, primary_key=True),
    Column("rank", Text, primary_key=True),
    Column("repeat", Integer, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    *_figures(),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey("studies.digest"), nullable=False, index=True),
    Column("started", Float, nullable=False),
    Column("last", Float, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("threads", Integer, nullable=False),
    Column("versions", Text, nullable=False),
)
