"""Site by site: all masks of one site while the others stay as they are, the best one kept, until no site changes."""

from math import prod

from trueoracle.search.problem import Asking, Method, Problem, anywhere
from trueoracle.space import MaskSpace
from trueoracle.words.errors import SpecError

_MOST = 100_000


def propose(problem: Problem) -> Asking:
    """Coordinate descent from one random mask after another, sites in a random order."""
    random = problem.random()
    sites = problem.space.sites
    while True:
        at = anywhere(problem.space, random)
        left = random.sample(range(len(sites)), len(sites))
        while left:
            place = left.pop()
            line = _line(problem.space, at, place)
            losses = yield problem.ask(line)
            best = line[int(losses.argmin())]
            if losses.min() < losses[line.index(at)]:
                at = best
                others = [other for other in range(len(sites)) if other != place]
                left = random.sample(others, len(others))
        problem.ended(at)


def _line(space: MaskSpace, rank: int, place: int) -> range:
    """All masks that differ from this one in the site at `place` alone, the mask itself among them."""
    weight = prod(choice.count for choice in space.sites[place + 1 :])
    count = space.sites[place].count
    first = rank - rank // weight % count * weight
    return range(first, first + count * weight, weight)


def _needs(space: MaskSpace) -> int:
    largest = max(space.sites, key=lambda choice: choice.count)
    if largest.count > _MOST:
        raise SpecError(
            f"search `sitewise` lists all masks of a site, at most {_MOST:,}, but `{largest.site}` has about "
            f"10^{len(str(largest.count)) - 1}: try `swaps`"
        )
    return 1


METHOD = Method(about="site by site, all masks of one site at a time", propose=propose, needs=_needs)
