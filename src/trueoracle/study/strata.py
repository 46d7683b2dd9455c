"""Masks drawn stratified over the loss, so that its tail is in the sample; and what each drawn mask stands for.

Sampling in two phases (Cochran, Sampling Techniques, 1977, chapter 12): many masks are drawn at random and their losses are
computed, which is cheap; those to be retrained are drawn from strata of that order.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random

from trueoracle.space import MaskSpace


def first_phase(space: MaskSpace, drawn: Sequence[int], of: int, seed: int) -> tuple[int, ...]:
    """`of` ranks, rising: the `drawn` ones, a random sample themselves, and others drawn at random."""
    others = sorted(set(space.draw(of, seed)) - set(drawn))
    return tuple(sorted((*drawn, *Random(seed).sample(others, of - len(drawn)))))


def strata(of: int, masks: int) -> list[range]:
    """Places in the order of losses, from the lowest on: the upper half, the half of what is left that lies above, and so on.

    As many as give `masks` at least two for each of them, and the lowest of them enough to give.
    """
    ends = [of]
    while masks // (len(ends) + 1) >= 2 and ends[-1] // 2 >= -(-masks // (len(ends) + 1)):
        ends.append(ends[-1] // 2)
    return [range(begin, end) for begin, end in pairwise([0, *reversed(ends)])]


def tail(
    losses: Mapping[int, float], drawn: Sequence[int], masks: int, seed: int
) -> tuple[list[int], dict[int, float]]:
    """`masks` more ranks (rising), equally many of each stratum while it has any; and what each mask, drawn or among these, stands for.

    `losses` by rank are those of the first phase; a loss that is no number counts as the highest. Within a stratum all
    masks were equally likely to be in the sample, so each stands for as many as the stratum holds over those in the sample.
    """
    random, known = Random(seed), set(drawn)
    order = sorted(losses, key=lambda rank: (losses[rank] if losses[rank] == losses[rank] else float("inf"), rank))
    layers = [[order[place] for place in layer] for layer in strata(len(order), masks)]
    left = [random.sample(rest, len(rest)) for layer in layers if (rest := [r for r in layer if r not in known])]
    chosen: list[int] = []
    while len(chosen) < masks:  # a mask of each stratum in turn
        for rest in left:
            if rest and len(chosen) < masks:
                chosen.append(rest.pop())
    sample = known | set(chosen)
    weight: dict[int, float] = {}
    for layer in layers:
        of_layer = [rank for rank in layer if rank in sample]
        weight |= dict.fromkeys(of_layer, len(layer) / max(1, len(of_layer)))
    return sorted(chosen), weight
