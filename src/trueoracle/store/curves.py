"""Learning curves in the database: a row a trial, its figures packed, so that a study of a million trials has a million
rows of them and not thirty million.

Stores that an earlier schema began hold rows of an epoch each beside them; they are read as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import pack, unpack
from typing import Any, NamedTuple

from sqlalchemy import Row

from trueoracle.words.trial import Figures, Trial

FIGURES = Figures.__slots__
_WITHOUT_VALIDATION = len(FIGURES) - 2


class Point(NamedTuple):
    """The figures of a trial after an epoch, counted from 1."""

    cell: int
    rank: str
    repeat: int
    epoch: int
    figures: Figures

    @property
    def key(self) -> tuple[int, str, int, int]:
        """What points are put in order by."""
        return self[:4]


def packed(trial: Trial) -> dict[str, Any]:
    """The curve of a trial that has one, as columns of its row."""
    width = _WITHOUT_VALIDATION if trial.curve[0].validation_loss is None else len(FIGURES)
    numbers = [getattr(figures, name) for figures in trial.curve for name in FIGURES[:width]]
    return {"every": trial.every, "width": width, "figures": pack(f"<{len(numbers)}d", *numbers)}


def points_of(rows: Iterable[Row[Any]]) -> Iterator[Point]:
    """The points of curves in the order of their rows, whether these hold a trial or an epoch each."""
    for row in rows:
        facts = row._mapping
        if "epoch" in facts:
            figures = Figures(**{name: facts[name] for name in FIGURES})
            yield Point(row.cell, row.rank, row.repeat, row.epoch, figures)
        else:
            for number, values in enumerate(_unpacked(row.figures, row.width), 1):
                yield Point(
                    row.cell,
                    row.rank,
                    row.repeat,
                    number * row.every,
                    Figures(**dict(zip(FIGURES, values, strict=False))),
                )


def _unpacked(numbers: bytes, width: int) -> Iterator[Sequence[float]]:
    """The figures of one epoch after another."""
    found = unpack(f"<{len(numbers) // 8}d", numbers)
    return (found[start : start + width] for start in range(0, len(found), width))
