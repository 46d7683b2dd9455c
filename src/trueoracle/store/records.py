"""What goes into a store and comes out, beside trials."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """A study by its digest; `spec` is the canonical form's YAML-able source as JSON."""

    digest: str
    name: str
    spec: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRecord:
    """A trained network that a study prunes: its weights (safetensors), figures, costs and data.

    `base` is its number within the study, from 0.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class CellRecord:
    """A line of the results table: its sites, its mask space's size, the masks in play, the pruned network's costs.

    `base` is the number of the network that is pruned; `sites` says of each site how many units it has and keeps.
    """

    index: int
    base: int
    name: str
    sites: dict[str, tuple[int, int]]
    space: int
    masks: int
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskRecord:
    """A mask with its pruned train loss; `scores` holds what each criterion says of it.

    `standard_error` is that of the loss, 0 where it was taken on the whole train split.
    """

    cell: int
    rank: int
    pruned: str
    loss: float
    accuracy: float
    standard_error: float
    scores: dict[str, float]


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
    """The finished trials of a study: how many, and the core-seconds that one took on average."""

    trials: int
    mean_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A process that retrained: when it began and stored last (seconds since 1970), how many trials, what with."""

    started: float
    last: float
    trials: int
    threads: int
    versions: dict[str, str]
