"""What units hand on of one example after another, looked at as a whole: their maps, not sums over them."""

from collections.abc import Callable

import torch
from torch import Tensor

from trueoracle.criteria.whole import Whole
from trueoracle.nets import Input, heard

MAPPED = 32
"""So many of the examples, the first, are looked at: every map of every unit is decomposed."""


def mean_over_maps(whole: Whole, judge: Callable[[Input], Tensor | None]) -> dict[str, Tensor]:
    """By site, the mean of what `judge` says (a number a unit) over examples and the layers that sum over the units.

    Where it says None it is left out; a site of which nothing is said is not there.
    """
    total: dict[str, Tensor] = {}
    count: dict[str, int] = {}

    def hear(given: Input) -> Tensor:
        said_U = judge(given)
        if said_U is not None:
            name = given.site.name
            total[name] = total.get(name, torch.zeros(())) + said_U.double().cpu()
            count[name] = count.get(name, 0) + 1
        return given.x

    with torch.no_grad(), heard(whole.net, whole.sites, hear):
        for number in range(min(MAPPED, len(whole.examples))):
            whole.examples.take(slice(number, number + 1)).judge(whole.net)
    return {name: total[name] / count[name] for name in total}
