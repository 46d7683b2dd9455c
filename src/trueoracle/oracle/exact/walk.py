"""One block of images through the tree of masks: which kernel, on which nodes, into which memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueoracle.lanes import LANES
from trueoracle.oracle.exact.rows import SiteRows, Tables
from trueoracle.oracle.exact.structure import Structure
from trueoracle.oracle.exact.tree import Tree

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]

# What the rows of one level's nodes may take: much for the first, whose tables are built anew for every group of nodes.
_BYTES_OF_FIRST_LEVEL, _BYTES_OF_A_LEVEL = 64 << 20, 8 << 20
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done for a list of ranks, whatever the images.

    `rows` has, for each listed level, the rows of its masks, one mask after another. `first` are the tables of
    the first convolution where it is a site, `last` those of the last site where its level is full.
    """

    tree: Tree
    rows: tuple[Indices, ...]
    first: Tables | None
    last: Tables | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A structure with its compiled kernels, its packed weights and, by layer, the rows of its sites."""

    structure: Structure
    kernels: Any
    weights: Floats
    site_rows: dict[int, SiteRows]

    @property
    def layers(self) -> list[int]:
        """The sites by layer, rising."""
        return sorted(self.site_rows)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """`vectors` of sixteen images, `relative` their last layers; sums are added to `losses` and `wrongs`."""

    network: Network
    work: Work
    vectors: int
    relative: Floats
    losses: NDArray[np.float64]
    wrongs: Indices
    buffer: Callable[..., NDArray[Any]]

    def run(self, images: Floats) -> None:
        """Add this block's sums of all leaves."""
        structure, kernels = self.network.structure, self.network.kernels
        image_side = structure.widths[0] * 14 * 14 * LANES
        from_images = structure.tree_starts_at_images
        pooled = self.buffer("pooled", image_side * (self.vectors if from_images else 1))
        root = self.buffer("root", 1 if from_images else self._row_size(0))
        units, channels = (_NONE, _NONE) if from_images else self._row_arrays(self.network.layers[0])
        kernels.prefix(
            images, self.network.weights, self.relative, pooled, self._scratch(), root, units, channels, self.vectors
        )
        if from_images:
            self._from_images(pooled)
        else:
            self._descend(0, 0, 1, root)

    def _from_images(self, pooled: Floats) -> None:
        """The first convolution's masks, as many at a time as the memory allows."""
        structure, tables = self.network.structure, self.work.first
        assert tables is not None
        nodes = len(tables.entry_MP)
        group = max(1, _BYTES_OF_FIRST_LEVEL // (4 * self._row_size(0)))
        third = structure.sums[0]
        starts = np.arange(structure.widths[1] + 1)
        if self._next_site_follows:
            starts = np.searchsorted(self.network.site_rows[1].unit_R, starts)
        units = self.network.site_rows[0].unit_R
        picks = self.work.tree.levels[0].pick
        for begin in range(0, nodes, group):
            end = min(begin + group, nodes)
            rows = self.buffer("first", (end - begin) * self._row_size(0))
            entries = np.ascontiguousarray(tables.entry_MP[picks[begin:end]]).ravel()
            self.network.kernels.first(
                pooled,
                self.network.weights,
                self.buffer("unit_rows", structure.first_rows * 100 * LANES),
                self.buffer("first_table", tables.entries * 100 * LANES),
                self._scratch(),
                rows,
                units,
                tables.step_T3.ravel(),
                entries,
                starts.astype(np.int64),
                end - begin,
                self.vectors,
            )
            if third.rows > 1:
                self._descend(1, begin, end, rows)
            else:
                self._through_unpruned(begin, end, rows)

    @property
    def _next_site_follows(self) -> bool:
        return self.network.structure.sums[0].rows > 1

    def _through_unpruned(self, begin: int, end: int, rows: Floats) -> None:
        """The second convolution is no site: its one sum, of everything, leads to the next site or to the leaves."""
        alone = np.zeros(1, dtype=np.int64)
        parents, picks = np.arange(end - begin), np.zeros(end - begin, dtype=np.int64)
        if len(self.network.structure.sums) == 1:
            self._leaves_by_list(rows, parents, picks, alone, slice(begin, end))
            return
        step = self._group(1)
        for at in range(begin, end, step):
            to = min(at + step, end)
            part = slice(at - begin, to - begin)
            below = self._middle(0, rows, parents[part], picks[part], alone)
            self._descend(1, at, to, below)

    def _descend(self, level: int, begin: int, end: int, rows: Floats) -> None:
        """All masks below the nodes [begin, end) above `level`, whose rows these are."""
        tree = self.work.tree
        if level == len(tree.levels):
            self._leaves_by_table(rows, begin, end)
            return
        item, nodes = tree.levels[level], tree.levels[level].under(begin, end)
        parents, picks = item.parent[nodes] - begin, item.pick[nodes]
        mask_rows = self.work.rows[level]
        if level == len(tree.levels) - 1 and not tree.full:
            self._leaves_by_list(rows, parents, picks, mask_rows, nodes)
            return
        index = len(self.network.structure.sums) - len(self.network.layers) + level
        step = self._group(index + 1)
        for at in range(nodes.start, nodes.stop, step):
            to = min(at + step, nodes.stop)
            part = slice(at - nodes.start, to - nodes.start)
            below = self._middle(index, rows, parents[part], picks[part], mask_rows)
            self._descend(level + 1, at, to, below)

    def _middle(self, index: int, rows: Floats, parents: Indices, picks: Indices, mask_rows: Indices) -> Floats:
        below: Floats = self.buffer(f"below{index}", len(parents) * self._row_size(index + 1))
        units, channels = self._row_arrays(self.network.structure.sums[index + 1].consumer - 1)
        kernel = getattr(self.network.kernels, f"sum{index}")
        weights, scratch = self.network.weights, self._scratch()
        kernel(rows, weights, self.relative, scratch, below, parents, picks, mask_rows, units, channels, self.vectors)
        return below

    def _leaves_by_table(self, rows: Floats, begin: int, end: int) -> None:
        structure, tables = self.network.structure, self.work.last
        assert tables is not None
        masks = len(tables.entry_MP)
        leaves = slice(begin * masks, end * masks)
        table = self.buffer("table", tables.entries * structure.outputs(structure.sums[-1].consumer) * LANES)
        self.network.kernels.leaves_by_table(
            rows,
            self.network.weights,
            self.relative,
            self._scratch(),
            table,
            tables.step_T3.ravel(),
            tables.entry_MP.ravel(),
            *self._accumulators(masks),
            self.losses[leaves],
            self.wrongs[leaves],
            end - begin,
            self.vectors,
        )

    def _leaves_by_list(
        self, rows: Floats, parents: Indices, picks: Indices, mask_rows: Indices, leaves: slice
    ) -> None:
        self.network.kernels.leaves_by_list(
            rows,
            self.network.weights,
            self.relative,
            self._scratch(),
            parents,
            picks,
            mask_rows,
            *self._accumulators(1),
            self.losses[leaves],
            self.wrongs[leaves],
            self.vectors,
        )

    def _accumulators(self, masks: int) -> tuple[NDArray[Any], ...]:
        size = masks * LANES
        return self.buffer("product", size), self.buffer("exponent", size), self.buffer("wrong", size, np.int32)

    def _row_size(self, index: int) -> int:
        """Numbers that the rows in front of sum `index` take, of one node and all images."""
        item = self.network.structure.sums[index]
        return self.vectors * item.rows * self.network.structure.outputs(item.consumer) * LANES

    def _group(self, index: int) -> int:
        return max(1, _BYTES_OF_A_LEVEL // (4 * self._row_size(index)))

    def _row_arrays(self, layer: int) -> tuple[Indices, Indices]:
        rows = self.network.site_rows[layer]
        return rows.unit_R, rows.channel_R

    def _scratch(self) -> Floats:
        scratch: Floats = self.buffer("scratch", self.network.structure.scratch)
        return scratch
