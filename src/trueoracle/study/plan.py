"""A study checked whole before anything is trained: its network, sites, mask spaces and masks in play."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from trueoracle.data import find_dataset
from trueoracle.errors import SpecError, TrueOracleError
from trueoracle.mask import Mask
from trueoracle.nets import Sites, build, find_sites, load_weights
from trueoracle.seeding import derive_seed
from trueoracle.shape import InputShape
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.spec import CellSpec, StudySpec


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell with its mask space; `drawn` holds the ranks in play, None where all of them are."""

    index: int
    name: str
    space: MaskSpace
    drawn: tuple[int, ...] | None

    @property
    def ranks(self) -> Sequence[int]:
        """The masks in play by rank, rising."""
        return range(self.space.count) if self.drawn is None else self.drawn

    @property
    def count(self) -> int:
        """How many masks are in play."""
        return self.space.count if self.drawn is None else len(self.drawn)

    @property
    def digits(self) -> int:
        """Decimal digits of the space's largest rank."""
        return len(str(self.space.count - 1))

    def masks(self) -> Iterator[Mask]:
        """The masks in play, in order of rank."""
        return map(self.space.unrank, self.ranks)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that follows from a specification without training or data. `net` is the untrained base."""

    spec: StudySpec
    digest: str
    shape: InputShape
    net: nn.Module
    sites: Sites
    cells: tuple[PlannedCell, ...]

    @property
    def trials(self) -> int:
        """How many trials the study has."""
        return self.spec.repeats * sum(cell.count for cell in self.cells)


def plan(spec: StudySpec) -> Plan:
    """Check `spec` against the networks and datasets there are; the first rule broken is raised.

    With `base_weights` the plan's `net` already holds them.
    """
    shape = find_dataset(spec.data).shape
    digest = spec.digest()
    net = build(spec.model, shape, seed=derive_seed(digest, "initialisation"))
    if spec.base_weights is not None:
        load_weights(net, spec.base_weights)
    sites = find_sites(net, shape)
    cells = tuple(_planned(index, cell, spec, digest, sites) for index, cell in enumerate(spec.cells))
    return Plan(spec=spec, digest=digest, shape=shape, net=net, sites=sites, cells=cells)


def mask_space(prune: dict[str, float], sites: Sites) -> MaskSpace:
    """The space of all masks that prune these sites, by names or globs, at these ratios; errors name the site."""
    ratios = sites.expanded(prune)
    return MaskSpace(tuple(SiteChoice.at_ratio(site, sites[site].units, ratio) for site, ratio in ratios.items()))


def _planned(index: int, cell: CellSpec, spec: StudySpec, digest: str, sites: Sites) -> PlannedCell:
    try:
        space = mask_space(cell.prune, sites)
        drawn = None
        if cell.draw is not None:
            drawn = space.draw(cell.draw, derive_seed(digest, "draw", index))
    except TrueOracleError as error:
        raise SpecError(f"cell `{cell.name}` of study `{spec.name}`: {error}") from None
    return PlannedCell(index=index, name=cell.name, space=space, drawn=drawn)
