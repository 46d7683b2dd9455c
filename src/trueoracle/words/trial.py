"""A trial: one mask retrained once. Its learning curve, its final figures, its outcome."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Outcome(Enum):
    """How a training ended; the value is the sentence a user reads."""

    FINISHED = "finished"
    DIVERGED = "diverged: the loss became infinite or not a number"
    FAILED = "failed: an error stopped it"


class FinalProtocol(Enum):
    """Which epoch's figures count as final."""

    LAST = "last"
    MEAN_LAST_5 = "mean_last_5"
    BEST_ON_TEST = "best_on_test"
    BEST_ON_VALIDATION = "best_on_validation"

    @property
    def description(self) -> str:
        """What the protocol does, in the words of a report."""
        return {
            FinalProtocol.LAST: "the last epoch",
            FinalProtocol.MEAN_LAST_5: "the mean of the last five epochs",
            FinalProtocol.BEST_ON_TEST: "the epoch with the best test accuracy (the paper's protocol; "
            "it peeks at the test split and so flatters every figure)",
            FinalProtocol.BEST_ON_VALIDATION: "the epoch with the best validation accuracy",
        }[self]


class Scale(Enum):
    """How large a study is beside the published one it was made from."""

    TINY = "tiny"
    SMALL = "small"
    PAPER = "paper"

    @property
    def caveat(self) -> str:
        """What a study of this scale cannot support, in the words of a report; empty where nothing was shrunk."""
        return {
            Scale.TINY: "This is the study at scale tiny: a few masks, images and epochs, so that every step is run in "
            "minutes. Its numbers show that it runs, and nothing about pruning.",
            Scale.SMALL: "This is the study at scale small: fewer masks, images and epochs, for some networks fewer "
            "filters, as its specification below says. It can show a relation in this smaller setting; "
            "it neither confirms nor refutes a figure published for the full one.",
            Scale.PAPER: "",
        }[self]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Losses (mean cross-entropy, nats) and accuracies (in [0, 1]) on whole splits, eval mode.

    Those on validation are None where there is no validation split.
    """

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None

    def finite(self) -> bool:
        """Whether all losses are finite."""
        losses = (self.train_loss, self.test_loss, self.validation_loss)
        return all(loss is None or math.isfinite(loss) for loss in losses)


SPLITS = ("test", "validation")
"""The splits whose images are answered one by one: all that are not trained on."""

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitAnswers:
    """What one network answers to the images of one split, in their order: right or wrong, and the loss of each.

    Kept packed, for a study holds thousands: `bits` holds one an image (`numpy.packbits`); `losses` are float16, in
    nats, at most 65,504, and None where they were not kept.
    """

    images: int
    bits: bytes
    losses: bytes | None = None

    @classmethod
    def of(cls, right_I: NDArray[np.bool_], loss_I: NDArray[np.floating] | None = None) -> "SplitAnswers":
        """From an array an image."""
        losses = None if loss_I is None else np.minimum(loss_I, _LARGEST).astype("<f2").tobytes()
        return cls(images=len(right_I), bits=np.packbits(right_I).tobytes(), losses=losses)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image is answered right."""
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.images).view(np.bool_)

    @property
    def loss(self) -> NDArray[np.float16] | None:
        """The loss of each image, None where it was not kept."""
        return None if self.losses is None else np.frombuffer(self.losses, "<f2")

    def without_losses(self) -> "SplitAnswers":
        """The same answers, right or wrong alone."""
        return replace(self, losses=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One mask, one repeat, retrained: `curve` holds the figures after each `every`-th epoch it lived through.

    `answers` are those after the epoch that counts (see `counted_epoch`), by split: `test` and, where there is one,
    `validation`; none where the trial did not finish.
    """

    cell: int
    mask: int
    repeat: int
    seed: int
    outcome: Outcome
    curve: tuple[Figures, ...]
    final: Figures | None
    seconds: float
    error: str = ""
    answers: Mapping[str, SplitAnswers] = field(default_factory=dict)
    every: int = 1

    @property
    def points(self) -> Iterator[tuple[int, Figures]]:
        """The curve with its epochs, counted from 1."""
        return zip(count(self.every, self.every), self.curve, strict=False)

    @property
    def epochs(self) -> int:
        """How many epochs it is known to have lived through."""
        return self.every * len(self.curve)


def counted_epoch(curve: Sequence[Figures], protocol: FinalProtocol) -> int:
    """Index of the point of the curve whose network counts: the first best one on a split, else the last (of `mean_last_5` too)."""
    match protocol:
        case FinalProtocol.LAST | FinalProtocol.MEAN_LAST_5:
            return len(curve) - 1
        case FinalProtocol.BEST_ON_TEST:
            return _first_best([figures.test_accuracy for figures in curve])
        case FinalProtocol.BEST_ON_VALIDATION:
            accuracies = [figures.validation_accuracy for figures in curve]
            if None in accuracies:
                raise ValueError("`best_on_validation` needs figures on a validation split")
            return _first_best([accuracy for accuracy in accuracies if accuracy is not None])


def final_figures(curve: Sequence[Figures], protocol: FinalProtocol) -> Figures:
    """The figures that count, by `protocol`; a curve of fewer than five epochs is averaged whole."""
    if not curve:
        raise ValueError("`curve` must hold at least one epoch")
    return _mean(curve[-5:]) if protocol is FinalProtocol.MEAN_LAST_5 else curve[counted_epoch(curve, protocol)]


def _first_best(accuracies: Sequence[float]) -> int:
    return max(range(len(accuracies)), key=accuracies.__getitem__)


def _mean(curve: Sequence[Figures]) -> Figures:
    return Figures(**{name: _mean_of([getattr(figures, name) for figures in curve]) for name in Figures.__slots__})


def _mean_of(values: Sequence[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
