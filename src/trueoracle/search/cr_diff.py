"""CR-Diff's simulated annealing (arXiv 2604.05524, and its code) over ratios, and the space of ratios it walks in.

A ratio of each group of blocks is one of the levels of a grid: a site of that space has a unit for each level, of which
a mask keeps one. So every search serves that knows no network, at the same cost.
"""

from collections.abc import Mapping, Sequence
from math import exp
from random import Random

from trueoracle.search.moves import mask_of
from trueoracle.search.problem import Asking, Method, Problem
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import SpecError

STEP, LEAST, LEVELS = 0.005, 0.1, 141
"""The grid of ratios: from 0.1 to 0.8, as CR-Diff's bounds are, by the smallest of its moves."""

# Of the published code. Scores are there an image reward to be raised; here the loss, with its sign turned.
_BEGIN = 0.3
_HOT, _COOLING = 0.1, 0.95
_LARGEST_MOVE, _SMALLEST_MOVE = 0.10, 0.005
_PATIENCE = 24
_RESTARTS, _MUTATION = 2, 3


def ratio_space(groups: Sequence[str]) -> MaskSpace:
    """All ratios of the grid for each of these groups."""
    return MaskSpace(tuple(SiteChoice(site=group, units=LEVELS, pruned=LEVELS - 1) for group in groups))


def ratios_of(space: MaskSpace, rank: int) -> dict[str, float]:
    """The ratio of each group that a mask of `ratio_space` stands for."""
    return {part.site: _ratio(part.kept[0]) for part in space.unrank(rank).sites}


def rank_of(space: MaskSpace, ratios: Mapping[str, float]) -> int:
    """The mask of `ratio_space` that stands for the nearest ratios of the grid."""
    return mask_of(space, [[_level(ratios[choice.site])] for choice in space.sites])


def propose(problem: Problem) -> Asking:
    """One ratio moves at a time, less far as it cools; after 24 moves without a better mask it begins anew from the best.

    It does so twice, its first move then three times as far. The temperature falls by a factor a move. The published
    code heats up again instead where the reward is above 0.8, which the negative of a loss never is.
    """
    random = problem.random()
    at = {choice.site: _BEGIN for choice in problem.space.sites}
    (loss,) = yield problem.ask([rank_of(problem.space, at)])
    best, best_loss = at, loss
    for restart in range(_RESTARTS + 1):
        temperature, idle = _HOT, 0
        reach = _MUTATION if restart else 1
        while idle < _PATIENCE:
            near = _moved(at, reach * max(_SMALLEST_MOVE, _LARGEST_MOVE * temperature / _HOT), random)
            (proposed,) = yield problem.ask([rank_of(problem.space, near)])
            if proposed <= loss or random.random() < exp((loss - proposed) / temperature):
                at, loss = near, proposed
            idle = 0 if proposed < best_loss else idle + 1
            if proposed < best_loss:
                best, best_loss = near, proposed
            temperature, reach = temperature * _COOLING, 1
        problem.ended(rank_of(problem.space, best))
        at, loss = best, best_loss
    return None


def _moved(ratios: Mapping[str, float], reach: float, random: Random) -> dict[str, float]:
    """One ratio changed by at most `reach`, within the bounds, on the grid."""
    group = random.choice(list(ratios))
    return {**ratios, group: _ratio(_level(ratios[group] + random.uniform(-reach, reach)))}


def _level(ratio: float) -> int:
    return min(max(round((ratio - LEAST) / STEP), 0), LEVELS - 1)


def _ratio(level: int) -> float:
    return round(LEAST + STEP * level, 3)


def _needs(space: MaskSpace) -> int:
    if any((choice.units, choice.pruned) != (LEVELS, LEVELS - 1) for choice in space.sites):
        raise SpecError(
            "search `cr-diff` is for the ratios of groups of blocks, not for masks of units: try `annealing`"
        )
    return 1


METHOD = Method(about="CR-Diff's simulated annealing over ratios", propose=propose, needs=_needs, by_itself=True)
