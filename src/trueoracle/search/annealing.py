"""Simulated annealing over swaps (Kirkpatrick, Gelatt and Vecchi, Science 220, 1983)."""

from math import exp

from trueoracle.search.moves import Swaps
from trueoracle.search.problem import Asking, Method, Problem, anywhere

# Nats, at the begin and at the end of the budget; in between it falls geometrically.
_HOT, _COLD = 0.5, 0.01


def propose(problem: Problem) -> Asking:
    """A random swap is made if it lowers the loss, or with probability exp(-rise / temperature)."""
    random = problem.random()
    while True:
        at = anywhere(problem.space, random)
        (loss,) = yield problem.ask([at])
        near, seen = Swaps(problem.space, at), {at}
        idle = 0
        while idle < 2 * len(near):  # so many proposals without a new mask: nothing is left to be found from here
            rank = near.any(random)
            idle = idle + 1 if rank in seen else 0
            seen.add(rank)
            (proposed,) = yield problem.ask([rank])
            temperature = _HOT * (_COLD / _HOT) ** problem.spent()
            if proposed <= loss or random.random() < exp((loss - proposed) / temperature):
                at, loss, near = rank, proposed, Swaps(problem.space, rank)
        problem.ended(at)


METHOD = Method(about="simulated annealing over swaps", propose=propose)
