"""Restarted swap descent: from random masks, swap after swap that lowers the loss, until none does."""

from random import Random

from trueoracle.search.exchanges import descents
from trueoracle.search.moves import Swaps
from trueoracle.search.problem import Asking, Method, Problem, anywhere


def propose(problem: Problem) -> Asking:
    """Descents from one random mask after another; under a ceiling, units move between sites as well."""
    if problem.ceiling is not None:
        yield from descents(problem, problem.ceiling)
    random = problem.random()
    while True:
        yield from _descent(problem, random)


def _descent(problem: Problem, random: Random) -> Asking:
    """To a mask that no swap improves. The first better neighbour is taken: it costs fewer evaluations than the best."""
    at = anywhere(problem.space, random)
    (lowest,) = yield problem.ask([at])
    better = True
    while better:
        better = False
        for rank in Swaps(problem.space, at).shuffled(random):
            (loss,) = yield problem.ask([rank])
            if loss < lowest:
                at, lowest, better = rank, loss, True
                break
    problem.ended(at)
    return None


METHOD = Method(about="restarted swap descent", propose=propose, exchanges=True)
