"""What goes into a store and comes out, beside trials.

Letters: M masks, R repeats, I images.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trueoracle.store.checksums import damaged
from trueoracle.words.errors import StoreError
from trueoracle.words.mask import LARGEST_NAME
from trueoracle.words.spec import StudySpec, parse_spec
from trueoracle.words.trial import SplitAnswers


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """A study by its digest; `spec` is the canonical form's YAML-able source as JSON."""

    digest: str
    name: str
    spec: str

    @property
    def parsed(self) -> StudySpec:
        """What `spec` says; `StoreError` where it is not what the digest was taken of, `SpecError` where it is no study.

        A study of given weights is taken at its word: their file, which its digest knows, may be gone.
        """
        try:
            facts = json.loads(self.spec)
        except json.JSONDecodeError:
            raise StoreError(damaged("studies")) from None
        found = parse_spec(facts, self.name)
        if found.base_weights is None and found.digest() != self.digest:
            raise StoreError(damaged("studies"))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRecord:
    """A trained network that a study prunes: its weights (safetensors), figures, costs and data.

    `base` is its number within the study, from 0. `answers` are those to each split that is not trained on; they are
    written with the record, and read on their own (`Store.base_answers`).
    """

    base: int
    weights: bytes
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    parameters: int
    macs: int
    classes: int
    data_fingerprint: str
    seconds: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    answers: Mapping[str, SplitAnswers] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRecord:
    """A line of the results table: its sites, its mask space's size, the masks in play, the pruned network's costs.

    `base` is the number of the network that is pruned; `sites` says of each site how many units it has and keeps, and
    of a cell `of_weights`, of each group of layers how many weights.
    """

    index: int
    base: int
    name: str
    sites: dict[str, tuple[int, int]]
    space: int
    masks: int
    parameters: int
    macs: int
    of_weights: bool = False

    @property
    def largest(self) -> int:
        """The largest number that may name a mask of the cell: its rank, or of a mask of weights its name."""
        return LARGEST_NAME if self.of_weights else self.space - 1

    @property
    def digits(self) -> int:
        """How many digits every mask's name is written with."""
        return len(str(self.largest))


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskRecord:
    """A mask with its pruned train loss; `scores` holds what each criterion says of it.

    `standard_error` is that of the loss, 0 where it was taken on the whole train split. `searched` says that the mask
    was chosen, by a search or a criterion, so that it is none of a random sample. `weight` is how many masks it stands for in
    a sample stratified over the loss, None outside one.
    """

    cell: int
    rank: int
    pruned: str
    loss: float
    accuracy: float
    standard_error: float
    scores: dict[str, float]
    searched: bool = False
    weight: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """Right or wrong, image by image, of all masks of a cell on one split, after the epoch that counts.

    `ranks` are the masks' in order. Where `known_MR` is False (not retrained yet, diverged, or kept by an earlier
    schema) `right_MRI` is False throughout. `loss_MRI` (float16, nats, at most 65,504; not a number where unknown) is
    None unless it was asked for and kept.
    """

    ranks: tuple[int, ...]
    known_MR: NDArray[np.bool_]
    right_MRI: NDArray[np.bool_]
    loss_MRI: NDArray[np.float16] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How far a study is, in trials; `rate` in trials a second over its latest run, None before the first."""

    total: int
    finished: int
    diverged: int
    failed: int
    rate: float | None

    @property
    def left(self) -> int:
        """Trials still to run; failed ones are run again."""
        return self.total - self.finished - self.diverged

    @property
    def seconds_left(self) -> float | None:
        """At the latest rate; None where there is none yet."""
        return self.left / self.rate if self.rate else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """The finished trials of a study: how many, and the core-seconds that one took, on average over the latest thousand."""

    trials: int
    mean_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A process that retrained: when it began and stored last (seconds since 1970), how many trials, what with.

    `worker` is the name that its claims bear, where the store knows it.
    """

    started: float
    last: float
    trials: int
    threads: int
    versions: dict[str, str]
    worker: str | None = None

    @property
    def rate(self) -> float | None:
        """Trials a second; None before the clock of the store has moved on."""
        return self.trials / (self.last - self.started) if self.last > self.started else None
