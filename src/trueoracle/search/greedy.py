"""Greedy searches: unit by unit, the one that hurts least to lose, or helps most to have.

They pass through masks that prune less than was asked for, of networks that are larger; both end by themselves.
"""

from collections.abc import Iterable, Sequence

from trueoracle.search.moves import mask_of
from trueoracle.search.problem import Ask, Asking, Kept, Method, Problem
from trueoracle.space import MaskSpace, SiteChoice


def backward(problem: Problem) -> Asking:
    """From the whole network, remove the unit whose loss hurts least, of any site that is not done yet."""
    space = problem.space
    kept: Kept = tuple(tuple(range(choice.units)) for choice in space.sites)
    while open_sites := [place for place in range(len(space.sites)) if _open(space, kept, place)]:
        lowest, best = float("inf"), None
        for place in open_sites:
            choices = [_without(kept, place, unit) for unit in kept[place]]
            losses = yield ask_of(problem, choices)
            if best is None or losses.min() < lowest:
                lowest, best = losses.min(), choices[int(losses.argmin())]
        assert best is not None
        kept = best
    return None


def forward(problem: Problem) -> Asking:
    """Site after site in the network's order: begin with none of its units and add the one that helps most.

    The sites before are pruned already, those behind are whole: the greedy forward selection of Ye et al.
    (arXiv 2003.01794), layer by layer.
    """
    space = problem.space
    kept: Kept = tuple(tuple(range(choice.units)) for choice in space.sites)
    for place, choice in enumerate(space.sites):
        chosen: tuple[int, ...] = ()
        while len(chosen) < choice.units - choice.pruned:
            choices = [_with_units(kept, place, (*chosen, unit)) for unit in range(choice.units) if unit not in chosen]
            losses = yield ask_of(problem, choices)
            kept = choices[int(losses.argmin())]
            chosen = kept[place]
    return None


def _open(space: MaskSpace, kept: Kept, place: int) -> bool:
    return len(kept[place]) > space.sites[place].units - space.sites[place].pruned


def _without(kept: Kept, place: int, unit: int) -> Kept:
    return _with_units(kept, place, (other for other in kept[place] if other != unit))


def _with_units(kept: Kept, place: int, units: Iterable[int]) -> Kept:
    return (*kept[:place], tuple(sorted(units)), *kept[place + 1 :])


def ask_of(problem: Problem, choices: Sequence[Kept]) -> Ask:
    """Masks that keep equally many units of each site: they are of one space, of the sites that lose any."""
    pruned = [
        (place, choice, choice.units - len(choices[0][place]))
        for place, choice in enumerate(problem.space.sites)
        if len(choices[0][place]) < choice.units
    ]
    space = MaskSpace(tuple(SiteChoice(site=c.site, units=c.units, pruned=lost) for _, c, lost in pruned))
    ranks = [mask_of(space, [kept[place] for place, _, _ in pruned]) for kept in choices]
    return Ask(space=space, ranks=ranks, images=range(problem.images))


def _needs_backward(space: MaskSpace) -> int:
    """At most: every step looks at every unit that is left."""
    units, steps = sum(choice.units for choice in space.sites), sum(choice.pruned for choice in space.sites)
    return sum(units - step for step in range(steps))


def _needs_forward(space: MaskSpace) -> int:
    return sum(choice.units - step for choice in space.sites for step in range(choice.units - choice.pruned))


BACKWARD = Method(
    about="greedy: remove the unit that hurts least, again and again",
    propose=backward,
    needs=_needs_backward,
    by_itself=True,
)
FORWARD = Method(
    about="greedy: site after site, add the unit that helps most",
    propose=forward,
    needs=_needs_forward,
    by_itself=True,
)
