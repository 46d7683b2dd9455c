"""The tables. Ranks are decimal text, padded so that text order is numeric order: they outgrow 64 bits.

A trial knows the run that stored it, when (`at`, seconds since 1970) and as which one of its study (`number`, from 1);
those that schema 2 kept do not. Rows that carry results carry a checksum of themselves (see `checksums`); those that
earlier schemas kept do not.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 7
APPLICATION = "trueoracle"

metadata = MetaData()


def _key(*names: str) -> list[Column[Any]]:
    """The columns that name what a row is of."""
    known: dict[str, tuple[Any, ...]] = {
        "study": (String, ForeignKey("studies.digest")),
        "base": (Integer,),
        "cell": (Integer,),
        "rank": (Text,),
        "repeat": (Integer,),
    }
    return [Column(name, *known[name], primary_key=True) for name in names]


def _figures(*, nullable: bool = False) -> list[Column[float]]:
    """Losses and accuracies on all splits; absent where a trial has none, or there is no validation split."""
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    of_validation = ("validation_loss", "validation_accuracy")
    return [
        *(Column(name, Float, nullable=nullable) for name in names),
        *(Column(name, Float) for name in of_validation),
    ]


def _answers() -> list[Column[Any]]:
    """What one network answered to a split, packed as `trueoracle.words.trial.SplitAnswers` is."""
    return [
        Column("split", String, primary_key=True),
        Column("images", Integer, nullable=False),
        Column("bits", LargeBinary, nullable=False),
        Column("losses", LargeBinary),
    ]


def _checksum() -> Column[int]:
    return Column("checksum", BigInteger)


meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

studies = Table(
    "studies",
    metadata,
    Column("digest", String, primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("spec", Text, nullable=False),
)

costs = Table(
    "costs",
    metadata,
    *_key("study", "cell"),
    Column("score", String, primary_key=True),
    Column("seconds", Float, nullable=False),
)

bases = Table(
    "bases",
    metadata,
    *_key("study", "base"),
    Column("weights", LargeBinary, nullable=False),
    *_figures(),
    Column("parameters", BigInteger, nullable=False),
    Column("macs", BigInteger, nullable=False),
    Column("classes", Integer, nullable=False),
    Column("data_fingerprint", String, nullable=False),
    Column("seconds", Float, nullable=False),
    _checksum(),
)

cells = Table(
    "cells",
    metadata,
    *_key("study", "cell"),
    Column("base", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("sites", Text, nullable=False),
    Column("space", Text, nullable=False),
    Column("masks", Integer, nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("macs", BigInteger, nullable=False),
    _checksum(),
)

masks = Table(
    "masks",
    metadata,
    *_key("study", "cell", "rank"),
    Column("pruned", Text, nullable=False),
    Column("loss", Float, nullable=False),
    Column("accuracy", Float, nullable=False),
    Column("standard_error", Float, nullable=False),
    Column("scores", Text, nullable=False),
    _checksum(),
)

trials = Table(
    "trials",
    metadata,
    *_key("study", "cell", "rank", "repeat"),
    Column("seed", BigInteger, nullable=False),
    Column("outcome", String, nullable=False),
    Column("error", Text, nullable=False),
    *_figures(nullable=True),
    Column("seconds", Float, nullable=False),
    Column("run", ForeignKey("runs.id")),
    Column("at", Float),
    Column("number", BigInteger),
    _checksum(),
)

answers = Table(
    "answers",
    metadata,
    *_key("study", "cell", "rank", "repeat"),
    *_answers(),
    _checksum(),
)

base_answers = Table(
    "base_answers",
    metadata,
    *_key("study", "base"),
    *_answers(),
    _checksum(),
)

curves = Table(
    "learning_curves",
    metadata,
    *_key("study", "cell", "rank", "repeat"),
    Column("every", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("figures", LargeBinary, nullable=False),
    _checksum(),
)
"""A curve a trial: after each `every`-th epoch `width` figures, little-endian doubles (see `trueoracle.store.curves`)."""

points = Table(
    "curves",
    metadata,
    *_key("study", "cell", "rank", "repeat"),
    Column("epoch", Integer, primary_key=True),
    *_figures(),
    _checksum(),
)
"""Curves that schemas before 6 kept, an epoch a row: read, and written no more."""

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
    Column("worker", String),
)
"""`worker` is the name that its claims bear; runs that schemas before 7 kept do not know theirs."""

Index("trials_by_number", trials.c.study, trials.c.number)
Index("trials_by_outcome", trials.c.study, trials.c.outcome)

work = Table(
    "work",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey("studies.digest"), nullable=False),
    Column("stage", String, nullable=False),
    Column("place", Integer, nullable=False),
    Column("cell", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("token", String),
    Column("until", Float),
    Column("worker", String),
    UniqueConstraint("study", "stage", "place"),
)
"""What is still to be done: pieces that a worker claims until a time, and takes away with the results that it stores."""
