"""Pruning criteria: how much each unit of a site matters, judged without retraining.

Three kinds. A *unit criterion* gives one importance a unit, higher for a unit to keep. The few that every study stores look
at weights alone and are functions of the network and a site (`CRITERIA`; others add theirs through the entry-point group
`trueoracle.criteria`), None or `CannotJudge` for a site that they cannot judge; those in `units/` look at what is gathered for all of
them at once (`collect`). A *mask predictor* gives one number a mask, of the pruned network (`masks/`). A *criterion of
weights* gives one importance a single weight (`weights/`). What Torch-Pruning's own classes say stands in `shipped`.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from itertools import product
from operator import or_
from typing import TypeVar

import torch
from torch import Tensor, nn

from trueoracle.criteria.collect import collect
from trueoracle.criteria.collected import Collected
from trueoracle.criteria.cost import afresh, gathering_seconds
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.masks import mask_predictors
from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Dense, Pruned
from trueoracle.criteria.refusal import CannotJudge
from trueoracle.criteria.shipped import shipped_criteria
from trueoracle.criteria.units import unit_criteria
from trueoracle.criteria.weighed import Layer, Scores, Seen, WeightCriterion, chance, thrown_away, weigh
from trueoracle.criteria.weights import weight_criteria
from trueoracle.nets import Role, Site, unit_weights
from trueoracle.nets.copying import twin
from trueoracle.nets.proof import seen_through
from trueoracle.words.errors import ModelError
from trueoracle.words.examples import Examples
from trueoracle.words.mask import Mask
from trueoracle.words.plugins import with_plugins
from trueoracle.words.progress import Advance
from trueoracle.words.seeding import derive_seed

__all__ = [
    "CRITERIA",
    "CannotJudge",
    "Collected",
    "Criterion",
    "Dense",
    "Layer",
    "MaskPredictor",
    "Needs",
    "Pruned",
    "Scores",
    "Seen",
    "UnitCriterion",
    "WeightCriterion",
    "afresh",
    "chance",
    "collect",
    "every_unit_criterion",
    "gathered",
    "gathering_seconds",
    "importances",
    "judged",
    "judged_of",
    "mask_predictors",
    "needs_of",
    "plain_criteria",
    "score",
    "shipped_criteria",
    "thrown_away",
    "unit_criteria",
    "weigh",
    "weight_criteria",
]

T = TypeVar("T")
BySite = Mapping[str, Mapping[str, T]]
"""Criterion -> site -> what is said of it."""

Criterion = Callable[[nn.Module, Site], Tensor | None]


def l1(net: nn.Module, site: Site) -> Tensor:
    """Mean absolute weight of each unit, biases left out (Li et al., arXiv 1608.08710); float64, one a unit."""
    return unit_weights(net, site).abs().mean(1)


def l2(net: nn.Module, site: Site) -> Tensor:
    """Root mean square weight of each unit, biases left out; float64, one a unit."""
    return unit_weights(net, site).square().mean(1).sqrt()


def bn_scale(net: nn.Module, site: Site) -> Tensor:
    """Absolute scale of the BatchNorm behind each filter (network slimming, arXiv 1708.06519).

    Where several follow the same filters, their scales are summed. `CannotJudge` where none does.
    """
    modules = dict(net.named_modules())
    scales = [
        layer.weight.detach().double().cpu().abs()[torch.from_numpy(cut.channels_UC)].sum(1)
        for cut in site.cuts
        if cut.role is Role.FOLLOWER
        and isinstance(layer := modules.get(cut.layer), nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        and layer.affine
    ]
    if not scales:
        raise CannotJudge(f"no BatchNorm with scales follows the units of `{site.name}`")
    return torch.stack(scales).sum(0)


def random(net: nn.Module, site: Site) -> Tensor:  # noqa: ARG001 - a criterion that looks at nothing
    """A fixed random number for each unit: what a criterion must beat."""
    generator = torch.Generator().manual_seed(derive_seed("criterion random", site.name))
    return torch.rand(site.units, generator=generator, dtype=torch.float64)


CRITERIA: dict[str, Criterion] = {"l1": l1, "l2": l2, "bn_scale": bn_scale, "random": random}


def importances(net: nn.Module, sites: Mapping[str, Site]) -> dict[str, dict[str, Tensor]]:
    """For every known criterion that can judge all of these sites, the importance of each unit of each site."""
    found: dict[str, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, criterion in with_plugins("criteria", CRITERIA).items():
            try:
                found[name] = {site.name: _said(criterion, net, site) for site in sites.values()}
            except CannotJudge:
                continue
    return found


def _said(criterion: Criterion, net: nn.Module, site: Site) -> Tensor:
    importance = criterion(net, site)
    if importance is None:
        raise CannotJudge(f"it has nothing to say of the units of `{site.name}`")
    return importance


def every_unit_criterion() -> dict[str, UnitCriterion]:
    """All criteria that there are by name, in alphabetical order: `CRITERIA`, those of other packages, and `units/`."""
    return dict(sorted({**plain_criteria(), **unit_criteria()}.items()))


def plain_criteria() -> dict[str, UnitCriterion]:
    """Those whose scores every study stores: `CRITERIA`, and those of other packages."""
    return {name: _as_unit_criterion(criterion) for name, criterion in with_plugins("criteria", CRITERIA).items()}


def judged(
    net: nn.Module, sites: Mapping[str, Site], examples: Examples | None, criteria: Mapping[str, UnitCriterion]
) -> tuple[BySite[Tensor], BySite[str]]:
    """What these criteria say of these sites, gathered once for all of them: see `judged_of`."""
    return judged_of(gathered(net, sites, examples, criteria), criteria)


def gathered(
    net: nn.Module,
    sites: Mapping[str, Site],
    examples: Examples | None,
    criteria: Mapping[str, UnitCriterion],
    advance: Advance = lambda _examples: None,
) -> dict[str, Collected]:
    """What these criteria ask for of each site, for all of them in one pass."""
    return collect(_audible(net), sites, examples, needs_of(criteria), advance)


def _audible(net: nn.Module) -> nn.Module:
    """`net`; or, as torch's own attention is one operation in which nothing can be heard, a copy that computes the same in several."""
    opaque = any(isinstance(module, nn.MultiheadAttention) for module in net.modules())
    return seen_through(twin(net)) if opaque else net


def needs_of(criteria: Mapping[str, UnitCriterion]) -> Needs:
    """All that these criteria ask for beside the weights."""
    return reduce(or_, (criterion.needs for criterion in criteria.values()), Needs.WEIGHTS)


def judged_of(
    collected: Mapping[str, Collected], criteria: Mapping[str, UnitCriterion]
) -> tuple[BySite[Tensor], BySite[str]]:
    """By criterion and site, the importance of each unit; and of sites that a criterion cannot judge, why.

    `ModelError` where a criterion gives something else than a number a unit.
    """
    found: dict[str, dict[str, Tensor]] = {}
    refused: dict[str, dict[str, str]] = {}
    for site, name in product(collected, criteria):  # site after site, so that memory holds what is computed of one
        of = collected[site]
        try:
            with torch.no_grad():
                importance = criteria[name].importance(of)
            found.setdefault(name, {})[site] = _checked(importance, name, of.site)
        except CannotJudge as why:
            refused.setdefault(name, {})[site] = str(why)
    return found, refused


def _checked(importance: Tensor, name: str, site: Site) -> Tensor:
    if importance.shape != (site.units,):
        raise ModelError(
            f"the criterion `{name}` must give a number for each of the {site.units} units of `{site.name}`, "
            f"but gives a tensor of shape {tuple(importance.shape)}"
        )
    if not bool(importance.isfinite().all()):
        raise CannotJudge(f"what it computes of the units of `{site.name}` is not finite")
    return importance.double().cpu()


def _as_unit_criterion(criterion: Criterion) -> UnitCriterion:
    return UnitCriterion(importance=lambda of: _said(criterion, of.net, of.site))


def score(mask: Mask, importance: Mapping[str, Tensor]) -> float:
    """The importance that a mask throws away, summed over its pruned units: lower is better, as for a loss."""
    return float(sum(importance[site][list(units)].sum().item() for site, units in mask.pruned.items()))
