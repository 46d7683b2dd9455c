"""What kernels are generated for: the sizes of a network and of its sites, and where each weight lies in one array.

Applying a site's mask to its consumer is a `Sum`. The sums follow one another down the tree of masks: each
turns the rows of its site, masks chosen, into the rows of the next, and the last one into logits.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trueoracle.lanes import LANES, Target, aligned
from trueoracle.oracle.exact.chain import CONVOLUTIONS, Chain
from trueoracle.oracle.exact.rows import SiteRows

PLACES = 25  # of a 5x5 kernel, and of an activation after the second pooling
# More sums at once than this gain nothing: so many hide the time that a multiply-add takes.
_MOST_SUMS = 12


@dataclass(frozen=True, kw_only=True)
class Sum:
    """`kept` rows out of `rows`, added up in front of layer `consumer`."""

    consumer: int
    rows: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Sizes alone: networks of the same structure share their compiled kernels.

    `widths` are the units of all layers, the last one's are the classes. `first` is the first layer that is a
    site, with `first_rows` rows; where it is the first convolution its masks are sums of `first_parts` parts. How
    many sums are kept at once is the `target`'s; results do not depend on it.
    """

    target: Target
    channels: int
    widths: tuple[int, ...]
    first: int
    first_rows: int
    first_parts: int
    sums: tuple[Sum, ...]

    @property
    def last(self) -> int:
        """The index of the last layer."""
        return len(self.widths) - 1

    @property
    def rivals(self) -> int:
        """Logits relative to the true class."""
        return self.widths[-1] - 1

    @property
    def tree_starts_at_images(self) -> bool:
        """Whether the first convolution is a site, so that its consumer is a convolution too."""
        return self.first == 0

    def outputs(self, layer: int) -> int:
        """How many numbers a layer gives an image in front of its ReLU: of the last one, the relative logits."""
        return self.rivals if layer == self.last else self.widths[layer]

    @property
    def sums_at_once(self) -> int:
        """How many vectors of sums stay in registers, beside a factor of them all and one of each."""
        parts = LANES // self.target.numbers
        return min(_MOST_SUMS, (self.target.registers - parts - 1) // parts)

    @property
    def in_registers(self) -> bool:
        """Whether a layer's values stay there while the next one's are summed up; else they go through memory."""
        return (
            2 * max(*self.widths[CONVOLUTIONS - 1 : -1], self.rivals) * LANES // self.target.numbers
            < self.target.registers - 1
        )

    def groups(self, outputs: int) -> list[range]:
        """`outputs` in near-equal parts whose sums stay in registers."""
        count = -(-outputs // self.sums_at_once)
        borders = [outputs * part // count for part in range(count + 1)]
        return [range(begin, end) for begin, end in pairwise(borders)]

    def equal_group(self, outputs: int) -> int:
        """How many outputs are summed up at a time where all parts are of one size."""
        return next(size for size in range(self.sums_at_once, 0, -1) if outputs % size == 0)

    def place(self, layer: int) -> int:
        """Where in the scratch a layer's values lie, if they do: behind those of a convolution, by turns."""
        return (PLACES + layer % 2) * max(self.widths) * LANES

    @property
    def scratch(self) -> int:
        """Numbers of scratch."""
        return (PLACES + 2) * max(self.widths) * LANES

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where the weights of each part begin in the packed array; key `size` is its length."""
        found, end = {}, 0
        for name, size in self._parts():
            found[name] = end
            end += size
        return {**found, "size": end}

    def _parts(self) -> list[tuple[str, int]]:
        consumers = {item.consumer: item.rows for item in self.sums}
        parts = [("w0", self.channels * PLACES * self.widths[0])]
        for layer in range(1, self.last):
            inputs = consumers.get(layer, self.widths[layer - 1])
            if layer == 1 and self.tree_starts_at_images:
                inputs = self.first_rows
            if layer == 2 and self.tree_starts_at_images and consumers[2] == 1:
                inputs = self.widths[1]  # the sum of a site that is none: all of the layer before it
            parts.append((f"w{layer}", inputs * (PLACES if layer <= 2 else 1) * self.widths[layer]))
        return parts + [(f"b{layer}", self.widths[layer]) for layer in range(self.last)]


def pack(chain: Chain, structure: Structure, rows: dict[int, SiteRows]) -> NDArray[np.float32]:
    """All weights but the last layer's, each in the order in which its kernel meets them; `rows` by layer of the site."""
    packed = aligned(structure.offsets["size"] + LANES)
    for place, layer in enumerate(chain[:-1]):
        weight = layer.weight
        if place - 1 in rows:
            weight = weight[:, rows[place - 1].channel_R]
        weight = _ordered(structure, weight, place)
        start, bias = structure.offsets[f"w{place}"], structure.offsets[f"b{place}"]
        packed[start : start + weight.size] = weight
        packed[bias : bias + layer.units] = layer.bias
    return packed


def _ordered(structure: Structure, weight_OIP: NDArray[np.float32], place: int) -> NDArray[np.float32]:
    if place == 1 and structure.tree_starts_at_images:
        return weight_OIP.ravel()
    if place >= CONVOLUTIONS - 1:
        return weight_OIP.transpose(1, 2, 0).ravel()
    group = structure.equal_group(len(weight_OIP))
    return weight_OIP.reshape(-1, group, *weight_OIP.shape[1:]).transpose(0, 2, 3, 1).ravel()
