"""An evolutionary search: children of two good masks, changed by a swap now and then, replace the worst."""

from random import Random

from trueoracle.search.moves import Swaps, mask_of
from trueoracle.search.problem import Asking, Method, Problem, anywhere

_POPULATION, _TOURNAMENT, _MUTATION = 30, 3, 0.5
_MOST_SWAPS = 1000  # to a mask not seen before


def propose(problem: Problem) -> Asking:
    """Steady state: a child takes the place of the worst of the population if it is better."""
    random = problem.random()
    first = [anywhere(problem.space, random) for _ in range(_POPULATION)]
    losses = yield problem.ask(first)
    living = dict(zip(first, losses, strict=True))
    seen = set(living)
    while True:
        child = _child(problem, _parent(living, random), _parent(living, random), random)
        swaps = 0
        while child in seen and swaps < _MOST_SWAPS:
            child, swaps = Swaps(problem.space, child).any(random), swaps + 1
        child = anywhere(problem.space, random) if child in seen else child
        seen.add(child)
        (loss,) = yield problem.ask([child])
        worst = max(living, key=living.__getitem__)
        if loss < living[worst]:
            del living[worst]
            living[child] = loss


def _parent(living: dict[int, float], random: Random) -> int:
    """The best of a few drawn ones."""
    return min(random.sample(list(living), min(_TOURNAMENT, len(living))), key=living.__getitem__)


def _child(problem: Problem, mother: int, father: int, random: Random) -> int:
    """It keeps what both keep, and fills up with units that one of them keeps."""
    kept = []
    pairs = zip(problem.space.unrank(mother).sites, problem.space.unrank(father).sites, strict=True)
    for one, other in pairs:
        both = set(one.kept) & set(other.kept)
        either = sorted(set(one.kept) ^ set(other.kept))
        kept.append([*both, *random.sample(either, len(one.kept) - len(both))])
    child = mask_of(problem.space, kept)
    return Swaps(problem.space, child).any(random) if random.random() < _MUTATION else child


METHOD = Method(about="evolutionary search", propose=propose)
