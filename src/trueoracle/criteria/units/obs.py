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
    gate_NU = of.known("gate_NU")
    hessian_UU = gate_NU.T @ gate_NU / len(gate_NU)
    level = hessian_UU.diagonal().mean().clamp(min=1e-300)
    damped_UU = hessian_UU + DAMPING * level * torch.eye(of.site.units, dtype=torch.float64)
    found: Tensor = 0.5 / torch.linalg.inv(damped_UU).diagonal()
    return found


CRITERION = UnitCriterion(importance=importance, needs=Needs.GRADIENTS)
