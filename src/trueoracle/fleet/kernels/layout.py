"""Where a kernel's numbers lie: weights in the order of the network's own parameters, and scratch.

All arrays but the images end in an axis of 16 lanes. In a fleet a lane is a network and an image is one number a
pixel for all of them; with `lone`, a lane is a sample, sixteen of one network at a time. The kernels address flat
arrays: `w` weights and `g` their gradients, in the order of the network's own parameters; `s` and `t` floats and
integers of scratch, laid out here.

Letters: o outputs, i inputs, y x rows and columns of windows, p q of a kernel.
"""

from dataclasses import dataclass
from math import prod

from trueoracle.fleet.chain import Chain, Product, Size, Stage
from trueoracle.lanes import LANES


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things lie, in elements, and how much scratch there is; -1 where there is no such thing."""

    chain: Chain
    lone: bool
    weights: dict[str, int]
    entries: tuple[int, ...]
    gradients: tuple[int, ...]
    indices: tuple[int, ...]
    routed: int
    fours: int
    blank: int
    blank_index: int
    blank_gradient: int
    active: int
    corners: int
    labels: int
    shares: int
    lesson: int
    taught: int
    softened: int
    floats: int
    integers: int

    @property
    def shared(self) -> bool:
        """Whether the first stage reads the image as one number for all lanes."""
        return not self.lone and isinstance(self.chain.stages[0], Product)

    @property
    def skips(self) -> bool:
        """Whether the first stage leaves out windows that are all background."""
        first = self.chain.stages[0]
        return self.shared and isinstance(first, Product) and prod(first.window) > 1

    @property
    def selects(self) -> bool:
        """Whether pooling picks one of four positions there, so that the weight gradient may look at that one alone."""
        first = self.chain.stages[0]
        return self.skips and isinstance(first, Product) and first.window == (2, 2)

    @property
    def distills(self) -> bool:
        """Whether the loss is also how far the answers are from a teacher's."""
        return self.lesson >= 0

    @property
    def size(self) -> int:
        """Numbers in an image with its padding."""
        return prod(padded(self.chain.stages[0]))


def padded(stage: Stage) -> Size:
    """The size of what a stage reads, with the zeros around it."""
    channels, height, width = stage.entry
    down, across = stage.padding if isinstance(stage, Product) else (0, 0)
    return channels, height + 2 * down, width + 2 * across


def lay_out(chain: Chain, sizes: dict[str, int], *, lone: bool, distills: bool = False) -> Layout:
    """The layout for parameters of these `sizes`, by name in the network's order."""
    weights, numbers = {}, _Counter()
    for name, size in sizes.items():
        weights[name] = numbers.take(size)
    floats, integers = _Counter(), _Counter()
    stages = chain.stages
    first = stages[0]
    shared = not lone and isinstance(first, Product)
    products = [stage for stage in stages if isinstance(stage, Product)]
    entries = [-1 if shared and n == 0 else floats.take(prod(padded(stage))) for n, stage in enumerate(stages)]
    return Layout(
        chain=chain,
        lone=lone,
        weights=weights,
        entries=(*entries, floats.take(chain.classes)),
        gradients=tuple(floats.take(prod(stage.exit)) for stage in stages),
        indices=tuple(integers.take(prod(stage.exit)) for stage in stages),
        routed=floats.take(max(stage.outputs * prod(stage.grid) for stage in products)),
        fours=floats.take(prod(padded(first)) // 4 + 1),
        blank=floats.take(first.exit[0]),
        blank_index=integers.take(first.exit[0]),
        blank_gradient=floats.take(first.exit[0]),
        active=integers.take(prod(first.exit[1:]) // LANES + 1),
        corners=integers.take(prod(first.exit[1:]) // LANES + 1),
        labels=integers.take(1),
        shares=floats.take(1),
        lesson=floats.take(3) if distills else -1,
        taught=floats.take(chain.classes) if distills else -1,
        softened=floats.take(chain.classes) if distills else -1,
        floats=floats.total,
        integers=integers.total,
    )


@dataclass(kw_only=True)
class _Counter:
    total: int = 0

    def take(self, vectors: int) -> int:
        place = self.total
        self.total += vectors * LANES
        return place
