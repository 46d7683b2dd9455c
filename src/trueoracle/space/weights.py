"""The masks of single weights of a cell: how many there are, drawn uniformly, and the one that keeps the best by a score.

Nothing here knows a network: a group is rows of weights, of each of which as many stay.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from math import comb, lgamma, log

import numpy as np
from numpy.typing import NDArray

from trueoracle.words.errors import SpecError
from trueoracle.words.mask import LARGEST_NAME, WeightGroup, WeightMask
from trueoracle.words.spec import pruned_count

MOST_COUNTED = 10**300
MOST_LISTED = 20_000


@dataclass(frozen=True)
class WeightSpace:
    """Every way to hold at zero as many weights of `sites`, which are groups of weights.

    Its masks have no ranks but names (see `WeightMask.rank`), and it knows those masks by name that it drew or was told
    of: the space itself is never held.
    """

    sites: tuple[WeightGroup, ...]
    _known: dict[int, WeightMask] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digits(self) -> int:
        """Decimal digits of a mask's name."""
        return len(str(LARGEST_NAME))

    @property
    def count(self) -> int:
        """How many masks there are; 10^300 stands for that many and more."""
        decimals = sum(group.rows * _log_comb(group.row, group.kept) for group in self.sites) / log(10)
        if decimals > 310:
            return MOST_COUNTED
        count = 1
        for group in self.sites:
            count *= comb(group.row, group.kept) ** group.rows
        return min(count, MOST_COUNTED)

    @property
    def first(self) -> WeightMask:
        """A mask like any other: the first weights of every row stay."""
        return self.best({group.site: np.zeros(group.units) for group in self.sites})

    def unrank(self, name: int) -> WeightMask:
        """The mask of this name; `KeyError` for one that was neither drawn nor told of."""
        return self._known[name]

    def learn(self, masks: Iterable[WeightMask]) -> tuple[int, ...]:
        """Know these masks as well; returns their names."""
        found = {mask.rank: mask for mask in masks}
        self._known.update(found)
        return tuple(found)

    def forget(self, names: Iterable[int]) -> None:
        """Know these masks no longer."""
        for name in names:
            self._known.pop(name, None)

    def draw(self, number: int, seed: int) -> tuple[int, ...]:
        """The names, rising, of `number` distinct masks, every set of them equally likely.

        Each row keeps those of its weights that get the largest of random 64-bit numbers, of a generator whose stream no
        version of numpy changes. A mask that was drawn before is drawn again.
        """
        if not 0 < number <= self.count:
            raise SpecError(f"cannot draw {number} masks from a space of {self.count}")
        random = np.random.PCG64(seed)
        drawn: dict[int, WeightMask] = {}
        while len(drawn) < number:
            keys = {group.site: random.random_raw(group.units) for group in self.sites}
            mask = self.best(keys)
            drawn.setdefault(mask.rank, mask)
        return tuple(sorted(self.learn(drawn.values())))

    def every(self) -> tuple[int, ...]:
        """The names, rising, of all masks; `SpecError` where there are more than one would list."""
        if self.count > MOST_LISTED:
            raise SpecError(f"the space holds more than {MOST_LISTED:,} masks of weights: say how many to `draw`")
        return tuple(sorted(self.learn(self._listed())))

    def best(self, score: Mapping[str, NDArray[np.generic]], criterion: str = "") -> WeightMask:
        """The mask that keeps in every row of every group the weights of highest score; of equal ones the first.

        `score` holds a number a weight, in the order of each group.
        """
        bits = []
        for group in self.sites:
            backwards = score[group.site].reshape(group.rows, group.row)[:, ::-1]
            order = np.argsort(backwards, axis=1, kind="stable")[:, : group.row - group.kept]
            gone = np.zeros((group.rows, group.row), np.bool_)
            np.put_along_axis(gone, group.row - 1 - order, True, axis=1)
            bits.append(np.packbits(gone).tobytes())
        return WeightMask(groups=self.sites, bits=tuple(bits), criterion=criterion)

    def _listed(self) -> Iterator[WeightMask]:
        rows = [group for group in self.sites for _ in range(group.rows)]
        ends = np.cumsum([group.rows for group in self.sites])
        for chosen in product(*(combinations(range(group.row), group.row - group.kept) for group in rows)):
            parts = np.split(np.arange(len(rows)), ends[:-1])
            yield WeightMask(
                groups=self.sites,
                bits=tuple(_packed(g, [chosen[i] for i in part]) for g, part in zip(self.sites, parts, strict=True)),
            )


def _packed(group: WeightGroup, gone_in_row: list[tuple[int, ...]]) -> bytes:
    gone = np.zeros((group.rows, group.row), np.bool_)
    np.put_along_axis(gone, np.array(gone_in_row), True, axis=1)
    return np.packbits(gone).tobytes()


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def at_ratio(site: str, layers: Mapping[str, tuple[int, ...]], ratio: float) -> WeightGroup:
    """floor(weights x ratio) of all weights of these layers together; `SpecError` where that is none."""
    shapes = tuple(layers.items())
    weights = WeightGroup(site=site, layers=shapes, row=1, kept=1).units
    pruned = pruned_count(weights, ratio)
    if pruned == 0:
        raise SpecError(
            f"ratio {ratio:g} prunes no weight of `{site}`: floor({weights} x {ratio:g}) = 0; "
            f"the smallest useful ratio is {1 / weights:g}"
        )
    return WeightGroup(site=site, layers=shapes, row=weights, kept=weights - pruned)


def at_pattern(site: str, layers: Mapping[str, tuple[int, ...]], kept: int, row: int) -> WeightGroup:
    """`kept` of every `row` inputs that follow one another; `SpecError` where that does not divide a layer's inputs."""
    for layer, shape in layers.items():
        if shape[-1] % row:
            raise SpecError(
                f"the pattern {kept}:{row} does not divide `{layer}`: it has {shape[-1]} "
                f"{'input' if shape[-1] == 1 else 'inputs'}, no multiple of {row}"
            )
    return WeightGroup(site=site, layers=tuple(layers.items()), row=row, kept=kept)
