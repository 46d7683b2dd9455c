"""How long trainings take on so many machines, and what then holds them up: their cores, or the store that all write to."""

from dataclasses import dataclass
from math import ceil, inf

from trueoracle.words.errors import SpecError

STORE_RATE = 3300.0
"""Trials a second that one PostgreSQL server took, by the wall, beside its eight writers on the same two cores: docs/cluster.md."""

FLEET = 16
"""Trainings that a worker claims at a time."""


@dataclass(frozen=True, kw_only=True)
class Takes:
    """`hours` on the clock, `limit` (cores or store) that sets them, and the `cost` of all machines, if a price is known."""

    hours: float
    limit: str
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class Machines:
    """`nodes` of `cores` each, at a `price` an hour of one, on a store that takes `store_rate` trials a second."""

    nodes: int
    cores: int
    price: float | None = None
    store_rate: float = STORE_RATE

    def __post_init__(self) -> None:
        for name in ("nodes", "cores"):
            if getattr(self, name) < 1:
                raise SpecError(f"`{name}` must be at least 1, but got {getattr(self, name)}")
        if self.price is not None and not 0 <= self.price < inf:
            raise SpecError(f"`price` must be at least 0 and finite, but got {self.price:g}")
        if not 0 < self.store_rate < inf:
            raise SpecError(f"`store_rate` must be above 0 and finite, but got {self.store_rate:g}")

    def take(self, trials: int, core_seconds: float) -> Takes:
        """So many trials of so many core-seconds each, a worker a core, each of which does whole fleets one after another."""
        rounds = ceil(ceil(trials / FLEET) / (self.nodes * self.cores))
        of_cores, of_store = rounds * min(FLEET, trials) * core_seconds, trials / self.store_rate
        hours = max(of_cores, of_store) / 3600
        return Takes(
            hours=hours,
            limit="cores" if of_cores >= of_store else "store",
            cost=None if self.price is None else self.price * self.nodes * hours,
        )
