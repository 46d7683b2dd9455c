"""The masks of a space in order of the importance they keep, one after another, the best first."""

import heapq
from collections.abc import Iterator, Mapping

from torch import Tensor

from trueoracle.space import MaskSpace
from trueoracle.words.mask import Mask, SiteMask


def foremost(space: MaskSpace, importance: Mapping[str, Tensor]) -> Iterator[int]:
    """Masks by rank, those that keep most importance first; of equally important units the first is kept.

    Every mask but the best is one step from a mask that keeps no less: a unit it keeps given up for the next better one.
    So the masks reached from the best, the most important first, come in order (as k-best sums do).
    """
    units = [importance[one.site].tolist() for one in space.sites]
    orders = [sorted(range(len(of_site)), key=of_site.__getitem__, reverse=True) for of_site in units]
    values = [[of_site[unit] for unit in order] for of_site, order in zip(units, orders, strict=True)]
    first = tuple(tuple(range(one.units - one.pruned)) for one in space.sites)
    worth = sum(values[site][place] for site, kept in enumerate(first) for place in kept)
    heap, seen = [(-worth, first)], {first}
    while heap:
        cost, places = heapq.heappop(heap)
        parts = tuple(
            SiteMask(site=one.site, units=one.units, kept=tuple(sorted(orders[site][place] for place in places[site])))
            for site, one in enumerate(space.sites)
        )
        yield space.rank(Mask(rank=0, sites=parts))
        for site, kept in enumerate(places):
            for place in kept:
                if place + 1 >= space.sites[site].units or place + 1 in kept:
                    continue
                moved = tuple(sorted((*(p for p in kept if p != place), place + 1)))
                step = (*places[:site], moved, *places[site + 1 :])
                if step not in seen:
                    seen.add(step)
                    heapq.heappush(heap, (cost + values[site][place] - values[site][place + 1], step))
