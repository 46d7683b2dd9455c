"""A trial: one mask retrained once. Its learning curve, its final figures, its outcome."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


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

    @property
    def description(self) -> str:
        """What the protocol does, in the words of a report."""
        return {
            FinalProtocol.LAST: "the last epoch",
            FinalProtocol.MEAN_LAST_5: "the mean of the last five epochs",
            FinalProtocol.BEST_ON_TEST: "the epoch with the best test accuracy (the paper's protocol; "
            "it peeks at the test split and so flatters every figure)",
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
    """Losses (mean cross-entropy, nats) and accuracies (in [0, 1]) on whole splits, eval mode."""

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float

    def finite(self) -> bool:
        """Whether both losses are finite."""
        return math.isfinite(self.train_loss) and math.isfinite(self.test_loss)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One mask, one repeat, retrained: `curve` holds the figures after each epoch it lived through."""

    cell: int
    mask: int
    repeat: int
    seed: int
    outcome: Outcome
    curve: tuple[Figures, ...]
    final: Figures | None
    seconds: float
    error: str = ""


def best_epoch(curve: Sequence[Figures]) -> int:
    """Index of the first epoch with the highest test accuracy."""
    return max(range(len(curve)), key=lambda epoch: curve[epoch].test_accuracy)


def final_figures(curve: Sequence[Figures], protocol: FinalProtocol) -> Figures:
    """The figures that count, by `protocol`; a curve of fewer than five epochs is averaged whole."""
    if not curve:
        raise ValueError("`curve` must hold at least one epoch")
    match protocol:
        case FinalProtocol.LAST:
            return curve[-1]
        case FinalProtocol.BEST_ON_TEST:
            return curve[best_epoch(curve)]
        case FinalProtocol.MEAN_LAST_5:
            return _mean(curve[-5:])


def _mean(curve: Sequence[Figures]) -> Figures:
    return Figures(
        train_loss=math.fsum(f.train_loss for f in curve) / len(curve),
        train_accuracy=math.fsum(f.train_accuracy for f in curve) / len(curve),
        test_loss=math.fsum(f.test_loss for f in curve) / len(curve),
        test_accuracy=math.fsum(f.test_accuracy for f in curve) / len(curve),
    )
