"""The cross-entropy method (Rubinstein, 1999): draw masks, and raise the chances of the units that the best ones keep."""

from math import log
from random import Random

from trueoracle.search.moves import mask_of
from trueoracle.search.problem import Asking, Method, Problem

_BATCH, _ELITE, _RATE = 50, 5, 0.5
_LEAST = 0.02  # chance: no unit is ever ruled out
_SEEN = 0.9  # of a batch drawn before: the search has settled

Chances = list[list[float]]


def propose(problem: Problem) -> Asking:
    """One settled run after another, each from even chances."""
    random = problem.random()
    while True:
        chances: Chances = [[0.5] * choice.units for choice in problem.space.sites]
        seen: dict[int, float] = {}
        new = _BATCH
        while new > (1 - _SEEN) * _BATCH:
            drawn = [_draw(problem, chances, random) for _ in range(_BATCH)]
            new = len(set(drawn) - seen.keys())
            losses = yield problem.ask(drawn)
            seen.update(zip(drawn, losses, strict=True))
            elite = sorted(set(drawn), key=seen.__getitem__)[:_ELITE]
            chances = _learnt(problem, chances, elite)
        problem.ended(min(seen, key=seen.__getitem__))


def _draw(problem: Problem, chances: Chances, random: Random) -> int:
    """Each site keeps its units of largest log-odds plus logistic noise: likelier ones are kept more often."""
    kept = []
    for choice, of_site in zip(problem.space.sites, chances, strict=True):
        noisy = [_log_odds(chance) + _log_odds(_inside(random)) for chance in of_site]
        order = sorted(range(choice.units), key=noisy.__getitem__)
        kept.append(order[choice.pruned :])
    return mask_of(problem.space, kept)


def _inside(random: Random) -> float:
    """Uniform in (0, 1), neither end."""
    return min(max(random.random(), 1e-12), 1 - 1e-12)


def _log_odds(chance: float) -> float:
    return log(chance / (1 - chance))


def _learnt(problem: Problem, chances: Chances, elite: list[int]) -> Chances:
    """Nearer to how often the elite keeps each unit."""
    masks = [problem.space.unrank(rank) for rank in elite]
    learnt = []
    for place, of_site in enumerate(chances):
        kept = [set(mask.sites[place].kept) for mask in masks]
        shares = [sum(unit in one for one in kept) / len(kept) for unit in range(len(of_site))]
        moved = [(1 - _RATE) * chance + _RATE * share for chance, share in zip(of_site, shares, strict=True)]
        learnt.append([min(max(chance, _LEAST), 1 - _LEAST) for chance in moved])
    return learnt


METHOD = Method(about="cross-entropy method", propose=propose)
