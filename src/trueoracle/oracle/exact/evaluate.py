"""The exact oracle: the pruned losses of all masks at the cost of little more than their last layers."""

from collections.abc import Sequence
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from trueoracle.data import images_of
from trueoracle.lanes import LANES, aligned, build, target
from trueoracle.nets import Removal, check_removal, find_sites, l1_kept
from trueoracle.oracle.evaluator import Sums
from trueoracle.oracle.exact.chain import Chain, find_chain
from trueoracle.oracle.exact.images import by_lane, in_lanes, rival_weights
from trueoracle.oracle.exact.rows import SiteRows, parts_of, site_rows, tables
from trueoracle.oracle.exact.source import source
from trueoracle.oracle.exact.structure import Structure, Sum, pack
from trueoracle.oracle.exact.tree import covering, listed
from trueoracle.oracle.exact.walk import Network, Walk, Work
from trueoracle.space import MaskSpace
from trueoracle.words.errors import ModelError, unknown
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Progress, Quiet
from trueoracle.words.shape import InputShape

# Images whose activations are held at once.
_IMAGES_AT_ONCE = 512
# A mask out of a full table costs about a sixth of one that is summed up by itself.
_LISTED_COST = 6
# Beyond this many masks of the last site the table's accumulators leave the caches.
_LARGEST_TABLE = 4096


Indices = NDArray[np.int64]
# By site, the units of its L1 mask; None where removal is aligned.
L1Kept = dict[str, tuple[int, ...]] | None


def exact(
    net: nn.Module,
    space: MaskSpace,
    shape: InputShape,
    removal: Removal = "aligned",
    progress: Progress | None = None,
) -> "Exact | str":
    """The exact oracle of `net` and `space`, or the reason, one line, why there is none for this network.

    `ModelError` for a site that the network does not have. The first use on a machine compiles for some seconds
    and says so to `progress`.
    """
    check_removal(removal)
    chain = find_chain(net, shape)
    if isinstance(chain, str):
        return chain
    known = {layer.name: layer.units for layer in chain[:-1]}
    for choice in space.sites:
        if choice.site not in known:
            raise ModelError(unknown("site", choice.site, known))
        if choice.units != known[choice.site]:
            raise ModelError(f"`{choice.site}` has {known[choice.site]} units, but the space has {choice.units}")
    kept = None
    if removal == "released":
        sites = find_sites(net, shape)
        kept = {choice.site: l1_kept(net, sites[choice.site], choice.units - choice.pruned) for choice in space.sites}
    return Exact(chain, space, kept, progress or Quiet())


class Exact:
    """Implements `Evaluator` for a network of the LeNet5-Mini family; made by `exact`.

    A tree over the sites, in the order of the layers, shares every prefix among masks; below a node, masks differ
    by which contributions of its units the next layer adds up. Computes in float32, sixteen images in the lanes of
    a vector, and adds up in float64: losses agree with a float64 evaluation to 1e-6. A right answer is one that no
    rival beats, the first class winning exact ties; where two logits differ by no more than float32's rounding, this
    path and the loop, which round differently, may each take either.

    Memory: some 64 MiB for the first level's nodes, 8 MiB for each further one, and 16 bytes a mask of the list.
    One instance may be used by several threads at once.
    """

    path = "exact"
    masks_at_once = 2**24
    images_at_once = _IMAGES_AT_ONCE

    def __init__(self, chain: Chain, space: MaskSpace, l1_kept: L1Kept, progress: Progress) -> None:
        names = [layer.name for layer in chain]
        layers = [names.index(choice.site) for choice in space.sites]
        self._space = space
        self._order = sorted(range(len(layers)), key=layers.__getitem__)
        self._layers = [layers[place] for place in self._order]
        rows = {layers[place]: _rows(space, place, l1_kept) for place in self._order}
        structure = _structure(chain, sorted(layers), rows)
        self._network = Network(
            structure=structure,
            kernels=build("exact", source(structure), progress),
            weights=pack(chain, structure, rows),
            site_rows=rows,
        )
        self._rivals_KIR = rival_weights(chain[-1])
        self._work: tuple[Sequence[int], Work] | None = None
        self._buffers = local()

    def sums(self, ranks: Sequence[int], examples: Examples) -> Sums:
        """Sums of cross-entropies (nats) and of right answers of the masks of these ranks, in their order."""
        if not len(ranks):
            return Sums(loss_M=np.zeros(0), correct_M=np.zeros(0, dtype=np.int64))
        work = self._work_for(ranks)
        losses = np.zeros(work.tree.leaves)
        wrongs = np.zeros(work.tree.leaves, dtype=np.int64)
        for begin in range(0, len(examples), _IMAGES_AT_ONCE):
            block = images_of(examples.take(slice(begin, begin + _IMAGES_AT_ONCE)))
            self._add_block(work, block.images_NCHW, block.labels_N, losses, wrongs)
        chosen = work.tree.leaf_of
        return Sums(loss_M=losses[chosen], correct_M=len(examples) - wrongs[chosen])

    def _work_for(self, ranks: Sequence[int]) -> Work:
        """The plan for these ranks; that of the last list is kept, since the next block of images asks for it again."""
        kept = self._work
        if kept is not None and (kept[0] is ranks or kept[0] == ranks):
            return kept[1]
        work = self._plan(ranks)
        self._work = (ranks, work)
        return work

    def _plan(self, ranks: Sequence[int]) -> Work:
        last_choice, last_layer = self._space.sites[-1], self._network.layers[-1]
        in_order = self._order == sorted(self._order)
        span = ranks[-1] - ranks[0] + 1
        by_table = (
            in_order
            and last_layer > 0
            and last_choice.count <= _LARGEST_TABLE
            and span + last_choice.count <= _LISTED_COST * len(ranks)
            and parts_of(last_choice.units) == 2
        )
        tree = covering(self._space, ranks) if by_table else listed(self._space, self._order, ranks)
        first = (
            tables(self._network.site_rows[0], tree.levels[0].kept)
            if self._network.structure.tree_starts_at_images
            else None
        )
        last = tables(self._network.site_rows[last_layer], tree.last_kept) if by_table else None
        rows = tuple(
            np.array([self._network.site_rows[layer].of(kept) for kept in level.kept], dtype=np.int64).ravel()
            for layer, level in zip(self._network.layers, tree.levels, strict=False)
        )
        return Work(tree=tree, rows=rows, first=first, last=last)

    def _add_block(
        self, work: Work, images_BCHW: Tensor, labels_B: Tensor, losses: NDArray[np.float64], wrongs: Indices
    ) -> None:
        Walk(
            network=self._network,
            work=work,
            vectors=-(-len(labels_B) // LANES),
            relative=by_lane(self._rivals_KIR, images_BCHW, labels_B),
            losses=losses,
            wrongs=wrongs,
            buffer=self._buffer,
        ).run(in_lanes(images_BCHW))

    def _buffer(self, name: str, size: int, dtype: type = np.float32) -> NDArray[Any]:
        """Memory of this thread, used again and again; what it holds is not defined."""
        held: NDArray[Any] | None = getattr(self._buffers, name, None)
        if held is None or held.size < size:
            held = aligned(size, dtype)
            setattr(self._buffers, name, held)
        return held


def _rows(space: MaskSpace, place: int, l1_kept: L1Kept) -> SiteRows:
    choice = space.sites[place]
    return site_rows(choice.units, choice.units - choice.pruned, None if l1_kept is None else l1_kept[choice.site])


def _structure(chain: Chain, layers: list[int], rows: dict[int, SiteRows]) -> Structure:
    sums = [Sum(consumer=layer + 1, rows=len(rows[layer].unit_R), kept=rows[layer].kept) for layer in layers if layer]
    if layers[0] == 0 and 1 not in layers:
        sums.insert(0, Sum(consumer=2, rows=1, kept=1))
    return Structure(
        target=target(),
        channels=int(chain[0].weight.shape[1]),
        widths=tuple(layer.units for layer in chain),
        first=layers[0],
        first_rows=len(rows[layers[0]].unit_R),
        first_parts=parts_of(rows[layers[0]].units),
        sums=tuple(sums),
    )
