"""Swap descent where a total cost is fixed instead of how many units each site loses: units also move between sites."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from trueoracle.search.greedy import ask_of
from trueoracle.search.problem import Asking, Ceiling, Counts, Kept, Problem
from trueoracle.space import Subsets

_SHAKES = 3  # exchanges a site by which a new descent begins elsewhere


@dataclass(frozen=True)
class _Block:
    """Moves that lose `lost` units of site `a` for one more of site `b`; none is lost where there is room (`a` is None)."""

    a: int | None
    b: int
    lost: int
    size: int


class Exchanges:
    """The masks one move away from a mask, all of them under the ceiling.

    A kept unit goes and a pruned one of the same site stays instead; or as few units of another site go as make room for
    it; or none, where there is room. Where several have to go, one choice of them is offered for each unit that stays.
    """

    def __init__(self, units: Counts, kept: Kept, ceiling: Ceiling, random: Random) -> None:
        self._kept, self._random = kept, random
        self._pruned = [[u for u in range(n) if u not in set(of_site)] for n, of_site in zip(units, kept, strict=True)]
        self._blocks = list(self._possible(ceiling))

    def __len__(self) -> int:
        return sum(block.size for block in self._blocks)

    def shuffled(self) -> Iterator[Kept]:
        """All of them in a random order."""
        return map(self._move, self._random.sample(range(len(self)), len(self)))

    def any(self) -> Kept:
        """One of them; the mask itself where there is none."""
        return self._move(self._random.randrange(len(self))) if len(self) else self._kept

    def _possible(self, ceiling: Ceiling) -> Iterator[_Block]:
        counts = tuple(map(len, self._kept))
        for b, pruned in enumerate(self._pruned):
            if not pruned:
                continue
            yield _Block(b, b, 1, counts[b] * len(pruned))
            if ceiling.bears(_changed(counts, b, +1)):
                yield _Block(None, b, 0, len(pruned))
                continue
            for a in range(len(counts)):
                lost = 0 if a == b else _least(_changed(counts, b, +1), a, ceiling)
                if lost:
                    yield _Block(a, b, lost, len(pruned) * (counts[a] if lost == 1 else 1))

    def _move(self, number: int) -> Kept:
        for block in self._blocks:
            if number < block.size:
                break
            number -= block.size
        which, comes = divmod(number, len(self._pruned[block.b]))
        kept = [set(of_site) for of_site in self._kept]
        if block.a is not None:
            of_a = self._kept[block.a]
            kept[block.a] -= set([of_a[which]] if block.lost == 1 else self._random.sample(of_a, block.lost))
        kept[block.b].add(self._pruned[block.b][comes])
        return tuple(tuple(sorted(of_site)) for of_site in kept)


def descents(problem: Problem, ceiling: Ceiling) -> Asking:
    """Descents from one mask after another, each begun by random exchanges from a random mask of the space."""
    random, units = problem.random(), tuple(choice.units for choice in problem.space.sites)
    subsets = Subsets.of(problem.space)
    while True:
        mask = problem.space.unrank(problem.space.draw(1, random.getrandbits(63))[0])
        at: Kept = tuple(part.kept for part in mask.sites)
        for _ in range(_SHAKES * len(units)):
            at = Exchanges(units, at, ceiling, random).any()
        (lowest,) = yield ask_of(problem, [at])
        better = True
        while better:
            better = False
            for near in Exchanges(units, at, ceiling, random).shuffled():
                (loss,) = yield ask_of(problem, [near])
                if loss < lowest:
                    at, lowest, better = near, loss, True
                    break
        problem.ended(subsets.rank(at))


def _changed(counts: Counts, site: int, by: int) -> Counts:
    return (*counts[:site], counts[site] + by, *counts[site + 1 :])


def _least(counts: Counts, a: int, ceiling: Ceiling) -> int:
    """How few units site `a` must lose; 0 where it cannot lose enough and keep one."""
    for lost in range(1, counts[a]):
        if ceiling.bears(_changed(counts, a, -lost)):
            return lost
    return 0
