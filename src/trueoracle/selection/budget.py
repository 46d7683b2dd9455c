"""What a selection may spend on retraining: model-epochs, or minutes of this machine.

A model-epoch is one network trained for one epoch of its retraining: what a study is forecast in as well.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from trueoracle.words.errors import SpecError
from trueoracle.words.trial import Trial

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """One of the two is given: `epochs`, which makes a selection repeatable, or `seconds`, which depend on the machine."""

    epochs: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.epochs:,.0f} model-epochs" if self.seconds is None else f"{self.seconds / 60:,.4g} minutes"


def parse_budget(text: str) -> Budget:
    """`200-epochs`, `90s`, `30m` or `2h`; `SpecError` for anything else, and for nothing."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(epochs)|([smh]))", text.strip())
    if found is None:
        raise SpecError(f"`budget` must be like 200-epochs, 90s, 30m or 2h, but got `{text}`")
    number = float(found[1])
    if number == 0:
        raise SpecError(f"a budget of `{text}` buys nothing")
    return Budget(epochs=number) if found[2] else Budget(seconds=number * _UNITS[found[3]])


@dataclass(kw_only=True)
class Purse:
    """What is left of a budget. `pace` tells how long a model-epoch takes, and is asked before anything was trained."""

    budget: Budget
    threads: int
    pace: Callable[[], float] = field(repr=False)
    epochs: float = 0.0
    seconds: float = 0.0

    def pay(self, trials: Iterable[Trial]) -> None:
        """Trials count in full whoever paid for them: a selection gone on with decides as an undisturbed one."""
        for trial in trials:
            self.epochs += trial.epochs
            self.seconds += trial.seconds / self.threads

    @property
    def left(self) -> float:
        """In model-epochs."""
        if self.budget.epochs is not None:
            return self.budget.epochs - self.epochs
        assert self.budget.seconds is not None
        pace = self.seconds / self.epochs if self.epochs else self.pace()
        return (self.budget.seconds - self.seconds) / pace

    @property
    def total(self) -> float:
        """The whole budget in model-epochs, as it looks now."""
        return self.left + self.epochs
