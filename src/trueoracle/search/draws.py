"""The best of masks drawn at random: the approximate oracle of the paper (arXiv 2412.00143)."""

from trueoracle.search.problem import Asking, Method, Problem, anywhere


def propose(problem: Problem) -> Asking:
    """One mask after another, drawn uniformly; none is evaluated twice, so it is a draw without replacement."""
    random = problem.random()
    while True:
        yield problem.ask([anywhere(problem.space, random)])


METHOD = Method(about="best of masks drawn at random", propose=propose)
