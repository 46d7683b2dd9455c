"""Pruning criteria: how much each unit of a site matters, judged without retraining.

Three kinds. A *unit criterion* gives one importance a unit, higher for a unit to keep. The few that every study stores look
at weights alone and are functions of the network and a site (`CRITERIA`; others add theirs through the entry-point group
`trueoracle.criteria`), None for a site that they cannot judge; those in `units/` look at what is gathered for all of
them at once (`collect`). A *mask predictor* gives one number a mask, of the pruned network (`masks/`). A
*criterion of weights* gives one importance a single weight (`weights/`).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trueoracle.criteria.collect import collect
from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.masks import mask_predictors
from trueoracle.criteria.predictor import MaskPredictor
from trueoracle.criteria.pruned import Dense, Pruned
from trueoracle.criteria.refusal import CannotJudge
from trueoracle.criteria.units import unit_criteria
from trueoracle.criteria.weighed import Layer, Scores, Seen, WeightCriterion, chance, thrown_away, weigh
from trueoracle.criteria.weights import weight_criteria
from trueoracle.nets import Role, Site, unit_weights
from trueoracle.words.examples import Examples
from trueoracle.words.mask import Mask
from trueoracle.words.plugins import with_plugins
from trueoracle.words.seeding import derive_seed

__all__ = [
    "CRITERIA",
    "CannotJudge",
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
    "chance",
    "collect",
    "gathered",
    "importances",
    "judged",
    "judged_of",
    "mask_predictors",
    "score",
    "thrown_away",
    "unit_criteria",
    "weigh",
    "weight_criteria",
]

Criterion = Callable[[nn.Module, Site], Tensor | None]


def l1(net: nn.Module, site: Site) -> Tensor:
    """Mean absolute weight of each unit, biases left out (Li et al., arXiv 1608.08710); float64, one a unit."""
    return unit_weights(net, site).abs().mean(1)


def l2(net: nn.Module, site: Site) -> Tensor:
    """Root mean square weight of each unit, biases left out; float64, one a unit."""
    return unit_weights(net, site).square().mean(1).sqrt()


def bn_scale(net: nn.Module, site: Site) -> Tensor | None:
    """Absolute scale of the BatchNorm behind each filter (network slimming, arXiv 1708.06519); None without one.

    Where several follow the same filters, their scales are summed.
    """
    modules = dict(net.named_modules())
    scales = [
        layer.weight.detach().double().cpu().abs()[torch.from_numpy(cut.channels_UC)].sum(1)
        for cut in site.cuts
        if cut.role is Role.FOLLOWER and isinstance(layer := modules.get(cut.layer), nn.BatchNorm2d)
    ]
    return torch.stack(scales).sum(0) if scales else None


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
            judged = {site.name: criterion(net, site) for site in sites.values()}
            known = {site: units for site, units in judged.items() if units is not None}
            if len(known) == len(judged):
                found[name] = known
    return found


def judged(
    net: nn.Module, sites: Mapping[str, Site], examples: Examples | None, criteria: Mapping[str, UnitCriterion]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """What these criteria say of these sites, gathered once for all of them: importances, as of `importances`, and refusals.

    A criterion that cannot judge one of the sites is in the refusals, with the reason.
    """
    return judged_of(gathered(net, sites, examples, criteria), criteria)


def gathered(
    net: nn.Module, sites: Mapping[str, Site], examples: Examples | None, criteria: Mapping[str, UnitCriterion]
) -> dict[str, Collected]:
    """What these criteria ask for of each site, for all of them in one pass."""
    needs = Needs.WEIGHTS
    for criterion in criteria.values():
        needs |= criterion.needs
    return collect(net, sites, examples, needs)


def judged_of(
    collected: Mapping[str, Collected], criteria: Mapping[str, UnitCriterion]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """As `judged`, of sites that were gathered for."""
    found: dict[str, dict[str, Tensor]] = {}
    refused: dict[str, str] = {}
    for name, criterion in criteria.items():
        try:
            found[name] = {site: criterion.importance(of) for site, of in collected.items()}
        except CannotJudge as why:
            refused[name] = str(why)
    return found, refused


def score(mask: Mask, importance: Mapping[str, Tensor]) -> float:
    """The importance that a mask throws away, summed over its pruned units: lower is better, as for a loss."""
    return float(sum(importance[site][list(units)].sum().item() for site, units in mask.pruned.items()))
