"""A mask: which units of each site are removed and which are kept, named by its rank in a mask space."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteMask:
    """The part of a mask that concerns one site of `units` units; `kept` is sorted."""

    site: str
    units: int
    kept: tuple[int, ...]

    @property
    def pruned(self) -> tuple[int, ...]:
        """The units that go, sorted."""
        kept = frozenset(self.kept)
        return tuple(unit for unit in range(self.units) if unit not in kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """One way to prune: a part for every site of its space, in the space's order.

    `rank` is the mask's name: its place in the mask space (see `trueoracle.space.MaskSpace`).
    """

    rank: int
    sites: tuple[SiteMask, ...]

    @property
    def pruned(self) -> dict[str, tuple[int, ...]]:
        """Site name -> sorted indices of the units removed there."""
        return {part.site: part.pruned for part in self.sites}

    @property
    def pruned_json(self) -> str:
        """`pruned` as JSON, as it stands in every table."""
        return json.dumps(self.pruned)
