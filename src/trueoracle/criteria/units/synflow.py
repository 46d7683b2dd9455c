"""Synaptic flow: the sum over the unit's own weights of |w| dR/d|w|, R the sum of what the product of all absolute weights
makes of an input of ones (Tanaka et al., arXiv 2006.05467).

See `linearised` for that product; R is what comes of ones less what comes of zeros. The source prunes single weights in a hundred rounds, computing anew after each. This is the first round's
score. Where no path runs through two units of the site, which holds of all but the channels of residual streams,
the flow through a unit is the same whichever others are gone, so more rounds would not change the order within the
site. Of coupled layers the flows through all that make the unit are added. No example is looked at but for its size.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.gradients import gradients
from trueoracle.criteria.linearised import linearised, linearly
from trueoracle.criteria.whole import Whole


def importance(of: Collected) -> Tensor:
    """A share of R, in no unit."""
    return of.of_whole(synaptic_flow)


def synaptic_flow(whole: Whole) -> dict[str, Tensor]:
    """By site: of each unit the sum over its own weights of |w| dR/d|w|, over R."""
    net = whole.once(linearised)
    ones = torch.ones_like(whole.images(1)).double()
    weights = {name: weight for name, weight in net.named_parameters() if weight.is_floating_point()}
    with torch.enable_grad(), linearly():
        for weight in weights.values():
            weight.requires_grad_(True)
        try:
            flow = net(ones).sum() - net(torch.zeros_like(ones)).sum()
            found = gradients(flow, list(weights.values()))
        finally:
            for weight in weights.values():
                weight.requires_grad_(False)
    return whole.own_sums(
        {
            name: torch.zeros_like(weight) if gradient is None else gradient * weight / flow.detach()
            for (name, weight), gradient in zip(weights.items(), found, strict=True)
        }
    )


CRITERION = UnitCriterion(importance=importance, needs=Needs.EXAMPLES)
