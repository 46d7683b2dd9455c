"""Optimal brain surgeon for the factors z of all units of the site, at z = 1: 1/2 / [H^-1]_uu (Hassibi and Stork, 1993, with w_q = 1).

The others' factors may be adapted, so a unit that others can stand in for matters little. H is the mean over examples of
the outer products of dL/dz, with `DAMPING` of its mean diagonal added to it.
"""

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion

DAMPING = 0.01


def importance(of: Collected) -> Tensor:
    """In squared nats."""
    gate_NU = of.known("gate_NU") / len(of.known("gate_NU")) ** 0.5
    level = DAMPING * gate_NU.square().sum(0).mean().clamp(min=1e-300)
    # H = V diag(s^2) V': few examples span little of the units' space, and in the rest the damping is all there is.
    _, s_R, v_RU = torch.linalg.svd(gate_NU, full_matrices=False)
    square_RU = v_RU.square()
    inside_U = (square_RU / (s_R.square() + level)[:, None]).sum(0)
    rest_U = (1 - square_RU.sum(0)).clamp(min=0) / level
    found: Tensor = 0.5 / (inside_U + rest_U)
    return found


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
