"""Channel independence: ||A||_* - ||A without row u||_*, the nuclear norm that goes with the unit (Sui et al., arXiv 2110.13981).

A row of A is all that a unit hands on of one example to one layer that sums over the units: its map, or its numbers at all tokens.
Averaged over the first `MAPPED` examples and these layers. Units that hand on one number have no maps, and are refused.

Letters: U units, M numbers that each hands on, R singular values, X points of a sum that stands for an integral.
"""

from math import pi

import torch
from torch import Tensor

from trueoracle.criteria.collected import Collected
from trueoracle.criteria.criterion import Needs, UnitCriterion
from trueoracle.criteria.maps import mean_over_maps
from trueoracle.criteria.whole import Whole
from trueoracle.nets import Input

_STEP, _REACH = 0.25, 40.0  # the sum's error is of the order of exp(-pi^2 / step) and of exp(-reach)


def importance(of: Collected) -> Tensor:
    """In the activations' unit."""
    return of.of_whole(mean_independence, "no maps are handed on, but a number each at most")


def mean_independence(whole: Whole) -> dict[str, Tensor]:
    """By site: the mean independence of each unit."""
    return mean_over_maps(whole, _of_input)


def _of_input(given: Input) -> Tensor | None:
    x_PC = given.x.movedim(given.dim, -1).reshape(-1, given.x.shape[given.dim])
    a_UM = x_PC[:, torch.from_numpy(given.cut.channels_UC).to(x_PC.device)].transpose(0, 1).flatten(1)
    return independence(a_UM) if a_UM.shape[1] > 1 else None


def independence(a_UM: Tensor) -> Tensor:
    """(U,), float64: for every row the nuclear norm that is lost without it, of one decomposition of the whole.

    With sqrt(l) = 1/pi times the integral over s > 0 of log(1 + l / s^2), and what log det(s^2 + A A') loses with a
    row, it is -1/pi times the integral of log(sum over i of V_ui^2 s^2 / (s^2 + r_i^2)), V and r the left singular
    vectors and the singular values. Over log s the integrand is smooth and falls off at both ends as s and as 1/s.
    """
    v_UR, r_R, _ = torch.linalg.svd(a_UM.double(), full_matrices=False)
    if not bool(r_R[0] > 0):
        return torch.zeros(len(a_UM), dtype=torch.float64)
    square_UR = v_UR.square()
    at_X = torch.arange(-_REACH, _REACH, _STEP, dtype=torch.float64, device=a_UM.device)
    s_X = r_R[0] * at_X.exp()
    gone_UX = square_UR @ (1 / (1 + (s_X / r_R[:, None]).square()))
    left_UX = square_UR @ (1 / (1 + (r_R[:, None] / s_X).square()))
    if len(r_R) < len(a_UM):  # what no singular vector holds
        left_UX += (1 - square_UR.sum(1, keepdim=True)).clamp(min=0)
    tiny = torch.finfo(torch.float64).tiny
    log_UX = torch.where(gone_UX < 0.5, torch.log1p(-gone_UX.clamp(max=0.5)), left_UX.clamp(min=tiny).log())
    found: Tensor = -_STEP / pi * (log_UX * s_X).sum(1)
    return found.clamp(min=0)


CRITERION = UnitCriterion(importance=importance, needs=Needs.EXAMPLES)
