"""A study checked whole before anything is trained: its network, sites, mask spaces and masks in play."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from trueoracle.data import Dataset, Drawn, dataset_shape, held_out, images_behind, names_noise, noised, subset
from trueoracle.fleet import check_adapters, objective
from trueoracle.nets import (
    GROUPS,
    Denoiser,
    Sites,
    build,
    check_forward,
    copied,
    find_sites,
    has_batchnorm,
    layers_called,
    load_weights,
    weight_groups,
    weight_shapes,
)
from trueoracle.search import ROWS, Budget, Hunt, check_rows, check_search, ratio_space
from trueoracle.space import AnySpace, MaskSpace, SiteChoice, WeightSpace, at_pattern, at_ratio
from trueoracle.words.errors import SpecError, TrueOracleError, unknown
from trueoracle.words.known import DATASETS
from trueoracle.words.mask import AnyMask, WeightGroup
from trueoracle.words.scores import WEIGHT_CRITERIA
from trueoracle.words.seeding import derive_seed
from trueoracle.words.shape import InputShape, Shape
from trueoracle.words.spec import CellSpec, Recipe, SearchSpec, StudySpec, TailSpec, case_name, pattern


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell of one base network with its mask space; `drawn` holds the ranks drawn, None where all masks are in play.

    With `tail` and `search`, masks that they choose by the loss are in play as well, and so are those that `criteria` give:
    `found`, known once the base network is. Those that the study names itself are among `drawn`, and `named` says which they
    are.
    `index` counts the cells of all base networks, as the store does, and `name` is unique among them.
    """

    index: int
    base: int
    name: str
    space: AnySpace
    drawn: tuple[int, ...] | None
    named: frozenset[int] = frozenset()
    tail: TailSpec | None = None
    search: SearchSpec | None = None
    criteria: tuple[str, ...] = ()
    found: tuple[int, ...] = ()

    @cached_property
    def ranks(self) -> Sequence[int]:
        """The masks in play by rank, rising."""
        return range(self.space.count) if self.drawn is None else sorted((*self.drawn, *self.found))

    @property
    def count(self) -> int:
        """How many masks are in play, those yet to be found included."""
        kept = (self.search.keep if self.search else 0) + (self.tail.masks if self.tail else 0) + len(self.criteria)
        return self.space.count if self.drawn is None else len(self.drawn) + kept

    @property
    def example(self) -> AnyMask:
        """A mask of the cell: all leave networks of one shape."""
        return self.space.unrank(self.drawn[0]) if self.drawn else self.space.first

    @property
    def of_units(self) -> MaskSpace:
        """The space of a cell that prunes units; `SpecError` where it prunes single weights."""
        if isinstance(self.space, WeightSpace):
            raise SpecError(f"cell `{self.name}` prunes single weights, which have no masks of units to look among")
        return self.space

    @property
    def of_weights(self) -> WeightSpace:
        """The space of a cell that prunes single weights; `SpecError` where it prunes units."""
        if isinstance(self.space, MaskSpace):
            raise SpecError(f"cell `{self.name}` prunes units, not single weights")
        return self.space

    @property
    def digits(self) -> int:
        """Decimal digits of the space's largest rank."""
        return self.space.digits

    def masks(self) -> Iterator[AnyMask]:
        """The masks in play, in order of rank."""
        return self.masks_of(self.ranks)

    def masks_of(self, ranks: Iterable[int]) -> Iterator[AnyMask]:
        """The masks of these ranks."""
        return (self.space.unrank(rank) for rank in ranks)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that follows from a specification without training or data. `nets` are the untrained bases.

    `seed_origin` is the text that all seeds derive from: the digest, or what the study says in `seeds_of`.
    """

    spec: StudySpec
    digest: str
    seed_origin: str
    shape: Shape
    nets: tuple[nn.Module, ...]
    sites: Sites
    cells: tuple[PlannedCell, ...]

    def cells_of(self, base: int) -> tuple[PlannedCell, ...]:
        """The cells of one base network."""
        return tuple(cell for cell in self.cells if cell.base == base)

    def seed(self, purpose: str, base: int, index: int = 0) -> int:
        """The seed of one random purpose of one base network."""
        return _seed(self.seed_origin, purpose, base, index)

    @property
    def trials(self) -> int:
        """How many trials the study has."""
        return self.spec.repeats * sum(cell.count for cell in self.cells)


def plan(spec: StudySpec, net: nn.Module | None = None, sites: Sites | None = None) -> Plan:
    """Check `spec` against the networks and datasets there are; the first rule broken is raised.

    With `base_weights` the plan's network already holds them. `net` is the network where it is at hand: it is copied
    instead of built by its name. `sites` are those of the same network where another plan has found them.
    """
    shape = dataset_shape(spec.data)
    _check_recipes(spec, shape)
    _check_validation(spec, there=spec.validation_images is not None or spec.data not in DATASETS)
    digest = spec.digest()
    origin = spec.seeds_of or digest
    as_it_is = spec.train is None and spec.base_weights is None
    nets = tuple(
        build(spec.model, shape, _seed(origin, "initialisation", base), spec.width_factor, trained=as_it_is)
        if net is None
        else _at_hand(net, shape, spec.model)
        for base in range(spec.base_networks)
    )
    if spec.base_weights is not None:
        load_weights(nets[0], spec.base_weights)
    _check_trained_on(spec, nets[0])
    if spec.recalibration_images is not None and not has_batchnorm(nets[0]):
        raise SpecError(f"`{spec.model}` has no BatchNorm to recalibrate: leave `recalibration_images` out")
    for recipe in (spec.train, spec.retrain, spec.early):
        if recipe is not None and recipe.lora is not None:
            check_adapters(nets[0], recipe.lora)
    sites = (sites or find_sites(nets[0], shape)) if any(cell.prune for cell in spec.cells) else Sites({})
    cells = [_planned(index, cell, spec, origin, sites, nets[0]) for index, cell in enumerate(spec.cells)]
    of_all = (
        replace(cell, base=base, index=base * len(cells) + cell.index, name=case_name(cell.name, base, len(nets)))
        for base in range(len(nets))
        for cell in cells
    )
    return Plan(spec=spec, digest=digest, seed_origin=origin, shape=shape, nets=nets, sites=sites, cells=tuple(of_all))


def _at_hand(net: nn.Module, shape: Shape, name: str) -> nn.Module:
    net = copied(net)
    check_forward(net, shape, name)
    return net


def _check_recipes(spec: StudySpec, shape: Shape) -> None:
    if isinstance(shape, InputShape):
        return
    for key in ("train", "retrain", "early"):
        recipe: Recipe | None = getattr(spec, key)
        if recipe is not None and recipe.for_images:
            raise SpecError(
                f"`{key}.{recipe.for_images[0]}` is for images to be classified, but `{spec.data}` is for {shape}"
            )


def _check_trained_on(spec: StudySpec, net: nn.Module) -> None:
    name = spec.trained_on
    if name is None:
        return
    if not (names_noise(name) and names_noise(spec.data) and images_behind(name) == images_behind(spec.data)):
        raise SpecError(
            f"`trained_on` must name the images of `data` with noise, at another size, but got `{name}` for `{spec.data}`"
        )
    check_forward(net, dataset_shape(name), spec.model)


def base_data(plan: Plan, data: Dataset) -> Dataset:
    """What the base networks are trained on: the study's `data`, or the same images at the size of `trained_on`."""
    if plan.spec.trained_on is None:
        return data
    assert data.images is not None
    return study_data(plan, noised(plan.spec.trained_on, data.images))


def _check_validation(spec: StudySpec, *, there: bool) -> None:
    key = spec.chooses_on_validation
    if key is not None and not there:
        raise SpecError(f"`{key}: best_on_validation` needs a validation split: set `validation_images`")


def drawn_questions(spec: StudySpec) -> Drawn:
    """Which questions the study is about, where it is about questions."""
    return Drawn(model=spec.model, train=spec.train_images, test=spec.test_images, seed=_subset_seed(spec))


def study_data(plan: Plan, data: Dataset) -> Dataset:
    """The part of the data that the study is about, the same for every study of this dataset and `seed`.

    `DataError` or `SpecError` where the study asks for more images than there are, or a recipe for changes that the
    data cannot take.
    """
    spec = plan.spec
    part = subset(data, spec.train_images, spec.test_images, _subset_seed(spec))
    if spec.validation_images is not None:
        part = held_out(part, spec.validation_images, derive_seed(spec.data, "validation", spec.seed))
    _check_validation(spec, there=part.validation is not None)
    for key, least in (("recalibration_images", 2), ("oracle_images", 100)):
        images = getattr(spec, key)
        if images is not None and not least <= images <= len(part.train):
            raise SpecError(f"`{key}` must lie in [{least}, {len(part.train)}], but got {images}")
    for recipe in (spec.train if spec.base_weights is None else None, spec.retrain, spec.early):
        if recipe is not None:
            objective(recipe, part)  # better said before anything is trained
    return part


def _subset_seed(spec: StudySpec) -> int:
    return derive_seed(spec.data, "subset", spec.seed)


def mask_space(prune: dict[str, float], sites: Sites) -> MaskSpace:
    """The space of all masks that prune these sites at these ratios; errors name the site.

    A pattern such as `layer*.conv1` stands for every site that it matches, in the order of the network's modules.
    """
    ratios = sites.expanded(prune)
    return MaskSpace(tuple(SiteChoice.at_ratio(site, sites[site].units, ratio) for site, ratio in ratios.items()))


def weight_space(cell: CellSpec, net: nn.Module) -> WeightSpace:
    """The space of all masks that hold at zero what the cell says of the weights; errors name the layer."""
    shapes, chosen_by = weight_shapes(net), dict[str, str]()
    groups: list[WeightGroup] = []
    for name, share in cell.weights.items():
        layers = _layers_called(name, shapes, net)
        for layer in layers:
            if layer in chosen_by:
                raise SpecError(f"the weights of `{layer}` are chosen twice: by `{chosen_by[layer]}` and by `{name}`")
            chosen_by[layer] = name
        each = {name: layers} if cell.pooled else {layer: {layer: shape} for layer, shape in layers.items()}
        groups += [
            at_pattern(site, part, *pattern(share)) if isinstance(share, str) else at_ratio(site, part, share)
            for site, part in each.items()
        ]
    return WeightSpace(tuple(groups))


def _layers_called(name: str, shapes: dict[str, tuple[int, ...]], net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of a UNet for noise, `down`, `mid` and `up` stand for what CR-Diff prunes of these blocks."""
    if name in GROUPS and isinstance(net, Denoiser):
        return {layer: shapes[layer] for layer in weight_groups(net)[name]}
    return layers_called(name, shapes)


def _seed(origin: str, purpose: str, base: int, index: int = 0) -> int:
    """The first base network has the seeds of a study of one, so that adding others changes none of its results."""
    return derive_seed(origin, f"{purpose} of base {base}" if base else purpose, index)


def _planned(index: int, cell: CellSpec, spec: StudySpec, origin: str, sites: Sites, net: nn.Module) -> PlannedCell:
    try:
        if cell.weights:
            return _planned_weights(index, cell, spec, origin, net)
        space = mask_space(cell.prune, sites)
        drawn: tuple[int, ...] | None = None if cell.search is None and not cell.masks else ()
        if cell.draw is not None:
            drawn = space.draw(cell.draw, derive_seed(origin, "draw", index))
        named = frozenset(cell.masks)
        if cell.masks:
            drawn = _with_named(drawn or (), cell.masks, space)
        if cell.tail is not None and cell.tail.of > space.count:
            raise SpecError(f"`tail.of` must be at most {space.count}, the masks of the space, but got {cell.tail.of}")
        if cell.search is not None:
            _check_search(cell.search, space, len(drawn or ()) + (cell.tail.masks if cell.tail else 0))
    except TrueOracleError as error:
        raise SpecError(f"cell `{cell.name}` of study `{spec.name}`: {error}") from None
    return PlannedCell(
        index=index, base=0, name=cell.name, space=space, drawn=drawn, named=named, tail=cell.tail, search=cell.search
    )


def _planned_weights(index: int, cell: CellSpec, spec: StudySpec, origin: str, net: nn.Module) -> PlannedCell:
    for key in ("retrain", "early"):
        recipe: Recipe | None = getattr(spec, key)
        if recipe is not None and recipe.lora is not None:
            raise SpecError(f"`{key}.lora` adds to whole weights, which fills the zeros that a mask of weights holds")
    for name in cell.criteria:
        if name not in WEIGHT_CRITERIA:
            raise SpecError(unknown("criterion of weights", name, WEIGHT_CRITERIA))
    space = weight_space(cell, net)
    if cell.search is not None:
        _check_weight_search(cell.search, space, pooled=cell.pooled)
    if cell.draw is not None:
        drawn = space.draw(cell.draw, derive_seed(origin, "draw", index))
    else:
        drawn = () if cell.criteria or cell.search is not None else space.every()
    return PlannedCell(
        index=index, base=0, name=cell.name, space=space, drawn=drawn, search=cell.search, criteria=cell.criteria
    )


def _check_weight_search(wanted: SearchSpec, space: WeightSpace, *, pooled: bool) -> None:
    """`rows` looks among the masks of the space, the others for other ratios of its pooled groups."""
    if wanted.method != ROWS and pooled:
        groups = ratio_space([group.site for group in space.sites])
        check_search(groups, Hunt(method=wanted.method, budget=Budget(evaluations=wanted.evaluations)))
        return
    if wanted.method != ROWS:
        raise SpecError(
            f"search `{wanted.method}` looks among masks of units or for ratios of `pooled` weights; among masks of weights "
            f"there is `{ROWS}`"
        )
    if wanted.keep > 1:
        raise SpecError(f"search `{ROWS}` finds one mask, but `keep` is {wanted.keep}")
    check_rows(space, wanted.evaluations)


def _with_named(drawn: tuple[int, ...], named: tuple[int, ...], space: MaskSpace) -> tuple[int, ...]:
    """The drawn masks and the named ones, by rank; no mask may be both, for it is a random one or it is not."""
    if named[-1] >= space.count:
        raise SpecError(f"`masks` must lie in [0, {space.count}), but got {named[-1]}")
    if twice := set(drawn) & set(named):
        raise SpecError(f"`masks` names {min(twice)}, which is drawn as well: leave it out")
    return tuple(sorted((*drawn, *named)))


def _check_search(wanted: SearchSpec, space: MaskSpace, drawn: int) -> None:
    check_search(space, Hunt(method=wanted.method, budget=Budget(evaluations=wanted.evaluations)))
    if drawn + wanted.keep > space.count:
        raise SpecError(f"cannot keep {wanted.keep} masks beside {drawn} drawn ones in a space of {space.count}")
