"""Pruning criteria: how much each unit of a site matters, judged without retraining.

A criterion takes the base network and a site's layer and returns one importance a unit, higher for a unit
to keep. Others add theirs through the entry-point group `trueoracle.criteria`.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trueoracle.mask import Mask
from trueoracle.plugins import with_plugins

Criterion = Callable[[nn.Module, str], Tensor]


def l1(net: nn.Module, site: str) -> Tensor:
    """Mean absolute weight of each unit, bias left out (Li et al., arXiv 1608.08710); float64, one a unit."""
    weight: Tensor = net.get_submodule(site).weight  # type: ignore[assignment]
    return weight.detach().double().abs().flatten(1).mean(1).cpu()


CRITERIA: dict[str, Criterion] = {"l1": l1}


def importances(net: nn.Module, sites: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """For every known criterion, the importance of each unit of each site."""
    known = with_plugins("criteria", CRITERIA)
    with torch.no_grad():
        return {name: {site: criterion(net, site) for site in sites} for name, criterion in known.items()}


def score(mask: Mask, importance: Mapping[str, Tensor]) -> float:
    """The importance that a mask throws away, summed over its pruned units: lower is better, as for a loss."""
    return float(sum(importance[site][list(units)].sum().item() for site, units in mask.pruned.items()))
