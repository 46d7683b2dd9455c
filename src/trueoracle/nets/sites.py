"""What a site is: units that go together, and what every layer loses with each of them.

Letters: U units of a site, C channels of a layer that one unit owns.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from trueoracle.words.errors import ModelError

_LISTED = 12  # so many names still make one readable line


class Kind(StrEnum):
    """What the units of a site are."""

    FILTER = "filter"
    NEURON = "neuron"
    CHANNEL = "channel"
    """A channel of what an embedding makes of tokens: of a transformer's hidden states, through all of its layers."""
    HEAD = "head"
    HEAD_GROUP = "head group"
    """The query heads that share one key/value head, with it (grouped-query attention)."""
    EXPERT = "expert"
    """A whole expert of a mixture, with the router's row for it: it is never asked again."""
    BLOCK = "block"
    """A whole residual block or layer of a transformer: what is left of it is its shortcut."""


HEADS = (Kind.HEAD, Kind.HEAD_GROUP)


class Role(StrEnum):
    """What a layer has to do with the units of a site."""

    PRODUCER = "producer"
    """The units are its outputs: a convolution's filters, the rows of a linear layer or of a projection."""
    FOLLOWER = "follower"
    """It works on each unit by itself: BatchNorm, a depthwise convolution, a parameter of one number a unit."""
    CONSUMER = "consumer"
    """It sums over the units: they are inputs of a convolution or a linear layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What one layer loses: with unit u of the site go its channels `channels_UC[u]`.

    `layer` is the name of a module, or of a bare parameter, of whose dimension `dim` they are places then.
    """

    layer: str
    role: Role
    channels_UC: NDArray[np.int64]
    dim: int = 0

    def channels(self, units: tuple[int, ...]) -> list[int]:
        """The channels of these units, rising."""
        return sorted(self.channels_UC[list(units)].ravel().tolist())


@dataclass(frozen=True, slots=True)
class Normalisation:
    """An operation of a module's forward pass that computes one number along `dims`, where several units lie."""

    module: str
    operation: str
    dims: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.module or self.operation


@dataclass(frozen=True, slots=True)
class Written:
    """A number of a site's units, or of their channels, that a forward pass reads: where it lies in a module.

    `path` is an attribute, or one of the module's configuration: its name, then an index of a list or none.
    """

    module: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Coupled units that are pruned together.

    Its name is the first layer whose outputs the units are; for attention heads it is the attention module.
    """

    name: str
    kind: Kind
    units: int
    cuts: tuple[Cut, ...]
    normalised_by: tuple[Normalisation, ...] = ()
    """What computes one number of several units, as a layer normalisation its mean: when some units go, it is computed
    of those that are left. Everything else is as if those that went were silent."""
    blocks: tuple[str, ...] = ()
    """Of a site of blocks, the names of the modules that are its units; nothing of them is cut, they go whole."""
    written: tuple[Written, ...] = ()
    """What must be told how many units are left, for the forward pass to go on."""

    @property
    def coupled(self) -> tuple[str, ...]:
        """The other layers that shrink with it; of a site of blocks, these."""
        return self.blocks or tuple(dict.fromkeys(cut.layer for cut in self.cuts if cut.layer != self.name))


@dataclass(frozen=True)
class Sites(Mapping[str, Site]):
    """The sites of a network by name, in the order of its modules; `refused` says of other layers why they are none."""

    found: Mapping[str, Site]
    refused: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Site:
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def without(self, names: Collection[str]) -> "Sites":
        """Those that have nothing to do with these layers."""
        left = {name: site for name, site in self.found.items() if not {name, *site.coupled} & set(names)}
        return Sites(left, self.refused)

    def named(self, name: str) -> Site:
        """The site of this name; `ModelError` says why there is none."""
        if name in self.found:
            return self.found[name]
        if name in self.refused:
            raise ModelError(f"`{name}` is no site: {self.refused[name]}; {self._known()}")
        nearest = get_close_matches(name, self.found, n=1, cutoff=0.6)
        hint = f"did you mean `{nearest[0]}`? " if nearest else ""
        raise ModelError(f"unknown site `{name}`: {hint}{self._known()}")

    def matching(self, pattern: str) -> tuple[str, ...]:
        """The names that a name or a glob stands for, in order; `*` runs over dots too. `ModelError` for none."""
        if not any(character in pattern for character in "*?["):
            return (self.named(pattern).name,)
        names = tuple(name for name in self.found if fnmatchcase(name, pattern))
        if not names:
            raise ModelError(f"no site is called `{pattern}`: {self._known()}")
        return names

    def expanded(self, prune: Mapping[str, float]) -> dict[str, float]:
        """A ratio for each site, from names and globs; `ModelError` where two of them name the same site."""
        ratios: dict[str, float] = {}
        chosen_by: dict[str, str] = {}
        for pattern, ratio in prune.items():
            for name in self.matching(pattern):
                if name in ratios:
                    raise ModelError(f"the site `{name}` is chosen twice: by `{chosen_by[name]}` and by `{pattern}`")
                ratios[name], chosen_by[name] = ratio, pattern
        return ratios

    def _known(self) -> str:
        names = list(self.found)
        if len(names) <= _LISTED:
            return f"known are {', '.join(names) or 'none'}"
        return f"there are {len(names)}, from `{names[0]}` to `{names[-1]}`; `trueoracle sites` lists them"
