"""The path `batched`: levels of operations run for the rows they depend on, many masks folded into the batch.

Letters: M masks, B images, C channels, K classes, R rows.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from trueoracle.data import images_of
from trueoracle.nets import Removal, Sites, find_sites, remove
from trueoracle.oracle.batched.graph import Traced, trace
from trueoracle.oracle.batched.layers import WORTHWHILE
from trueoracle.oracle.batched.plan import Coupling, Plan, couplings, make_plan
from trueoracle.oracle.batched.refusal import CannotBatch
from trueoracle.oracle.batched.rows import Chunk, KeptUnits
from trueoracle.oracle.batched.run import Run
from trueoracle.oracle.evaluator import Sums
from trueoracle.space import MaskSpace
from trueoracle.words.examples import Examples
from trueoracle.words.shape import InputShape

# Bytes of activations held at a time. A CPU core works best within its own cache; a GPU wants large batches.
_BUDGET = {"cpu": 64 * 2**20, "cuda": 2 * 2**30}
_MOST_IMAGES = {"cpu": 64, "cuda": 2048}
_MOST_MASKS = 2**14  # of a chunk: its table of digits stays small


@dataclass(frozen=True, kw_only=True)
class Batched:
    """Sums for the masks of a space, what they share computed once an image block. Made by `batched`.

    It works on the device and in the precision that the network had then. Beside the weights, the images and what
    PyTorch's kernels take for themselves, a call holds at most `budget` bytes of activations, as long as one mask
    on one image fits; nothing is kept between calls, so threads may share one evaluator. `worthwhile` is the number of masks from which on the
    contributions of single units are computed and summed, instead of running a layer on zeroed input.
    """

    traced: Traced
    plan: Plan
    space: MaskSpace
    sites: tuple[Coupling, ...]
    kept_units: tuple[KeptUnits, ...]
    budget: int
    worthwhile: int = WORTHWHILE
    path: str = "batched"
    masks_at_once: int = 1024
    images_at_once: int = 1024

    @torch.inference_mode()
    def sums(self, ranks: Sequence[int], examples: Examples) -> Sums:
        """The sums of the masks of these ranks; logits in the network's precision, the rest in float64."""
        loss_M = np.zeros(len(ranks), dtype=np.float64)
        correct_M = np.zeros(len(ranks), dtype=np.int64)
        split = images_of(examples)
        block = self._images_at_once(split.images_NCHW)
        for images, labels in zip(
            torch.split(split.images_NCHW, block), torch.split(split.labels_N, block), strict=True
        ):
            for start, stop, logits_MBK in self._logits(ranks, images):
                loss, correct = _score(logits_MBK, labels)
                loss_M[start:stop] += loss
                correct_M[start:stop] += correct
        return Sums(loss_M=loss_M, correct_M=correct_M)

    @torch.inference_mode()
    def logits(self, ranks: Sequence[int], images_BCHW: Tensor) -> Tensor:
        """(M, B, K): the logits of every pruned network on these images, all at once."""
        return torch.cat([logits_MBK for _, _, logits_MBK in self._logits(ranks, images_BCHW)])

    def _logits(self, ranks: Sequence[int], images_BCHW: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        run = Run(self.traced, self.plan, self.sites, self.kept_units, self.worthwhile, images_BCHW)
        start, masks = 0, _MOST_MASKS
        while start < len(ranks):
            chunk, masks = self._fitting(ranks[start : start + masks], len(images_BCHW))
            yield start, start + masks, run(chunk)
            start, masks = start + masks, min(2 * masks, _MOST_MASKS)

    def _fitting(self, ranks: Sequence[int], images: int) -> tuple[Chunk, int]:
        """As many of the first ranks as the budget bears, halved until it does."""
        while True:
            chunk = Chunk.of(self.space, self.plan.order, ranks)
            if len(ranks) == 1 or self._numbers(chunk) * images * self._item_size() <= self.budget:
                return chunk, len(ranks)
            ranks = ranks[: (len(ranks) + 1) // 2]

    def _numbers(self, chunk: Chunk) -> int:
        """An upper bound of the numbers held at a time for one image."""
        held = 0
        masks = len(chunk.digits[0])
        for level in self.plan.levels:
            rows = len(chunk.rows(level.bound))
            held += rows * level.floats
            if masks >= self.worthwhile * rows:
                held += rows * level.part_floats
        return held

    def _images_at_once(self, images_BCHW: Tensor) -> int:
        """So many that what all masks share takes up to half of the budget."""
        level = self.plan.levels[0]
        one = (level.floats + level.part_floats) * self._item_size()
        return max(1, min(_MOST_IMAGES[images_BCHW.device.type], self.budget // (2 * one)))

    def _item_size(self) -> int:
        return next(self.traced.module.parameters()).element_size()


def batched(net: nn.Module, space: MaskSpace, shape: InputShape, removal: Removal = "aligned") -> Batched:
    """The evaluator of `space` for `net` as it is now; later changes of `net` do not reach it.

    `CannotBatch` says why not, where an operation stands in the way or where a trial in float64 does not equal
    the physically pruned networks.
    """
    known = find_sites(net, shape)
    sites = couplings(known, space, net, removal)
    # Released, BatchNorm keeps the L1 mask's channels: it must not become one with the layer that loses the mask's.
    unfolded = {name for site in sites if site.l1_kept is not None for name in site.producers}
    in_float64 = deepcopy(net).double()
    trial = _built(trace(in_float64, shape, unfolded), sites, space)
    _try_out(replace(trial, worthwhile=1), in_float64, known, shape, removal)
    return _built(trace(net, shape, unfolded), sites, space)


def _built(traced: Traced, sites: tuple[Coupling, ...], space: MaskSpace) -> Batched:
    plan = make_plan(traced, sites)
    return Batched(
        traced=traced,
        plan=plan,
        space=space,
        sites=tuple(sites[place] for place in plan.order),
        kept_units=tuple(KeptUnits(space.sites[place]) for place in plan.order),
        budget=_BUDGET[next(traced.module.parameters()).device.type],
    )


def _try_out(candidate: Batched, net: nn.Module, sites: Sites, shape: InputShape, removal: Removal) -> None:
    """A few masks on noise, all in float64: no rule can foresee what a user's forward pass does with a larger batch."""
    weight = next(net.parameters())
    noise = torch.randn(2, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(0))
    noise = noise.double().to(weight.device)
    space = candidate.space
    ranks = space.draw(min(3, space.count), seed=0)
    with torch.no_grad():
        wanted_MBK = torch.stack([remove(net, space.unrank(rank), sites, removal)(noise) for rank in ranks])
    try:
        found_MBK = candidate.logits(ranks, noise)
    except Exception as error:  # whatever a user's forward pass raises for a batch of another size
        raise CannotBatch(f"a batch of several masks fails: {str(error).splitlines()[0]}") from None
    tolerance = 1e-9 * float(wanted_MBK.where(wanted_MBK.isfinite(), 0).abs().max())
    if found_MBK.shape != wanted_MBK.shape or not torch.allclose(
        found_MBK, wanted_MBK, rtol=1e-9, atol=tolerance, equal_nan=True
    ):
        raise CannotBatch("a trial in float64 gave other outputs than the physically pruned networks")


def _score(logits_MBK: Tensor, labels_B: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Per mask, the sum of cross-entropies in float64 and the number of right answers."""
    exact_MBK = logits_MBK.double()
    labels_MB1 = labels_B.expand(len(logits_MBK), -1).unsqueeze(2)
    # By itself a fraction of the time of PyTorch's cross-entropy, which stores all log-probabilities.
    loss_MB = exact_MBK.logsumexp(2) - exact_MBK.gather(2, labels_MB1).squeeze(2)
    loss_M, correct_M = loss_MB.sum(1), (logits_MBK.argmax(2) == labels_B).sum(1)
    return loss_M.cpu().numpy(), correct_M.cpu().numpy()
