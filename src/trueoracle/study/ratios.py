"""CR-Diff's question: which share of the weights of each of a few groups may go, so that noise is told best.

A search asks for ratios and is told the loss of the network without the smallest weights, which is not retrained. It is
the pruned loss of any other study, on images of any size, whichever size the network was trained at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import nn

from trueoracle.nets import (
    Amplified,
    Groups,
    channels_last,
    evaluate,
    mask_weights,
    smallest,
    state_bytes,
)
from trueoracle.search import Ask, Found, Hunt, Judged, Memory, ratio_space, ratios_of, search
from trueoracle.space import MaskSpace
from trueoracle.words.errors import SpecError
from trueoracle.words.examples import Examples
from trueoracle.words.mask import WeightMask
from trueoracle.words.progress import Progress


@dataclass(frozen=True, kw_only=True)
class RatioJudge:
    """Judges a ratio for each of `groups` by the mean loss on `images` of the network without their smallest weights.

    It is amplified by `k`, and not retrained.
    """

    net: nn.Module
    images: Examples
    groups: Groups
    k: float = 1.0

    @property
    def space(self) -> MaskSpace:
        """The ratios that are searched: every search of masks serves, and `cr-diff`, which is of them alone."""
        return ratio_space(tuple(self.groups))

    def mask(self, rank: int) -> WeightMask:
        """The mask of weights that the ratios of this rank stand for."""
        return smallest(self.net, ratios_of(self.space, rank), self.groups)

    def pruned(self, ratios: Mapping[str, float]) -> nn.Module:
        """What is judged."""
        pruned = mask_weights(self.net, smallest(self.net, ratios, self.groups))
        return pruned if self.k == 1 else Amplified(self.net, pruned, self.k)

    def __call__(self, ask: Ask) -> Judged:
        """The answer, a network after another."""
        if ask.space != self.space:
            raise SpecError("this search passes through masks that prune less, and ratios have none: try `swaps`")
        images = self.images.take(slice(ask.images.start, ask.images.stop))
        found = [evaluate(channels_last(self.pruned(ratios_of(self.space, rank))), images) for rank in ask.ranks]
        return Judged(
            loss_M=np.array([one.loss for one in found]),
            accuracy_M=np.array([one.accuracy for one in found]),
            standard_error_M=np.zeros(len(found)),
        )


def search_ratios(judge: RatioJudge, hunt: Hunt, progress: Progress, keep: Path | None = None) -> Found:
    """What the hunt finds; its masks are ratios by `ratios_of(found.space, rank)`.

    With `keep`, losses are kept in that file, from which the same search goes on after a kill. `SpecError` for a search
    that does not serve.
    """
    identity = f"{judge.groups} {judge.k:g} {hunt.method} {hunt.seed}".encode() + state_bytes(judge.net)
    digest = sha256(identity + _content(judge.images)).hexdigest()
    return search(Memory(judge, keep, digest, at_once=1), judge.space, len(judge.images), hunt, progress=progress)


def _content(images: Examples) -> bytes:
    """What the images are, by their values."""
    tensors = (value for value in vars(images).values() if hasattr(value, "cpu"))
    return b"".join(sha256(tensor.cpu().contiguous().numpy().tobytes()).digest() for tensor in tensors)
