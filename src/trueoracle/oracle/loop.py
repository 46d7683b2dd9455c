"""One mask at a time: prune, evaluate. Slow and plain; what every faster path must equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import nn

from trueoracle.nets import Removal, Sites, channels_last, evaluate, find_sites, prune
from trueoracle.oracle.evaluator import Sums
from trueoracle.space import AnySpace, MaskSpace
from trueoracle.words.examples import Examples
from trueoracle.words.shape import Shape


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The path that every other one must equal: pruned networks, one after the other.

    Forward passes run in the precision of `net` and the examples, sums in float64. `path` says why
    this path was taken where another had been wished for.
    """

    net: nn.Module
    space: AnySpace
    shape: Shape
    removal: Removal = "aligned"
    path: str = "loop"
    masks_at_once: int = 16
    images_at_once: int = 4096
    known: Sites | None = None

    @cached_property
    def sites(self) -> Sites:
        """The network's sites: those that are `known`, else found once; masks of weights need none."""
        if self.known is not None:
            return self.known
        return find_sites(self.net, self.shape) if isinstance(self.space, MaskSpace) else Sites({})

    def sums(self, ranks: Sequence[int], examples: Examples) -> Sums:
        """The sums of the masks of these ranks; one copy of the network is held at a time."""
        count = len(examples)
        loss_M, correct_M = np.zeros(len(ranks)), np.zeros(len(ranks), dtype=np.int64)
        for place, rank in enumerate(ranks):
            pruned = prune(self.net, self.space.unrank(rank), self.sites, self.removal)
            found = evaluate(channels_last(pruned), examples)
            loss_M[place], correct_M[place] = found.loss * count, round(found.accuracy * count)
        return Sums(loss_M=loss_M, correct_M=correct_M)
