"""What kernels are generated for: the sizes of a network and of its sites, and where each weight lies in one array.

Applying a site's mask to its consumer is a `Sum`. The sums follow one another down the tree of masks: each
turns the rows of its site, masks chosen, into the rows of the next, and the last one into logits.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trueoracle.lanes import aligned
from trueoracle.oracle.exact.chain import Chain
from trueoracle.oracle.exact.rows import SiteRows

PLACES = 25  # of a 5x5 kernel, and of an activation after the second pooling
_MOST_OUTPUTS = 12  # accumulators that stay in registers


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
    site, with `first_rows` rows; where it is the first convolution its masks are sums of `first_parts` parts.
    """

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


def output_group(outputs: int) -> int:
    """How many outputs of a convolution are accumulated at a time: an equal share of at most a dozen."""
    return next(size for size in range(_MOST_OUTPUTS, 0, -1) if outputs % size == 0)


def pack(chain: Chain, structure: Structure, rows: dict[int, SiteRows]) -> NDArray[np.float32]:
    """All weights but the last layer's, each in the order in which its kernel meets them; `rows` by layer of the site."""
    packed = aligned(structure.offsets["size"] + 16)
    for place, layer in enumerate(chain[:-1]):
        weight = layer.weight
        if place - 1 in rows:
            weight = weight[:, rows[place - 1].channel_R]
        weight = _ordered(weight, place, by_unit=place == 1 and structure.tree_starts_at_images)
        start, bias = structure.offsets[f"w{place}"], structure.offsets[f"b{place}"]
        packed[start : start + weight.size] = weight
        packed[bias : bias + layer.units] = layer.bias
    return packed


def _ordered(weight_OIP: NDArray[np.float32], place: int, *, by_unit: bool) -> NDArray[np.float32]:
    if by_unit:
        return weight_OIP.ravel()
    if place >= 2:
        return weight_OIP.transpose(1, 2, 0).ravel()
    group = output_group(len(weight_OIP))
    return weight_OIP.reshape(-1, group, *weight_OIP.shape[1:]).transpose(0, 2, 3, 1).ravel()
