"""What a search may cost: evaluations, each one mask on all images, or core-seconds, or both."""

from dataclasses import dataclass

from trueoracle.words.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Budget:
    """At most so many evaluations and so many core-seconds; None where there is no such bound.

    Evaluations make a search repeatable; core-seconds depend on the machine.
    """

    evaluations: int | None = None
    core_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 1:
            raise SpecError(f"`evaluations` must be at least 1, but got {self.evaluations}")
        if self.core_seconds is not None and not self.core_seconds > 0:
            raise SpecError(f"`core_seconds` must be above 0, but got {self.core_seconds:g}")

    @property
    def open(self) -> bool:
        """Whether there is no bound at all."""
        return self.evaluations is None and self.core_seconds is None

    def share(self, evaluations: float, core_seconds: float) -> float:
        """Which share of it so much is, in [0, 1]; 0 of a budget without bounds."""
        shares = [0.0]
        if self.evaluations is not None:
            shares.append(evaluations / self.evaluations)
        if self.core_seconds is not None:
            shares.append(core_seconds / self.core_seconds)
        return min(1.0, max(shares))


@dataclass(frozen=True, kw_only=True)
class Hunt:
    """Which search, how long and with which random choices; `confidence` is what a race is to have."""

    method: str
    budget: Budget
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise SpecError(f"`confidence` must lie in (0, 1), but got {self.confidence:g}")
