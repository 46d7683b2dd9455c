"""CR-Diff's question: which share of the down, mid and up blocks' weights may go, so that noise is told best.

A search asks for ratios and is told the loss of the network without the smallest weights, which is not retrained. It is
the pruned loss of any other study, on images of any size, whichever size the network was trained at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import nn

from trueoracle.nets import (
    GROUPS,
    Amplified,
    channels_last,
    evaluate,
    mask_weights,
    smallest,
    state_bytes,
    weight_groups,
)
from trueoracle.search import Ask, Found, Hunt, Judged, Memory, ratio_space, ratios_of, search
from trueoracle.words.errors import SpecError
from trueoracle.words.examples import Examples
from trueoracle.words.progress import Progress

SPACE = ratio_space(tuple(GROUPS))
"""The ratios that are searched: every search of masks serves, and `cr-diff`, which is of them alone."""


@dataclass(frozen=True, kw_only=True)
class RatioJudge:
    """Judges ratios by the mean loss on `images` of the network without its smallest weights, amplified by `k`."""

    net: nn.Module
    images: Examples
    select: Sequence[str] = ()
    k: float = 1.0

    def pruned(self, ratios: Mapping[str, float]) -> nn.Module:
        """What is judged."""
        pruned = mask_weights(self.net, smallest(self.net, ratios, self.select))
        return pruned if self.k == 1 else Amplified(self.net, pruned, self.k)

    def __call__(self, ask: Ask) -> Judged:
        """The answer, a network after another."""
        if ask.space != SPACE:
            raise SpecError("this search passes through masks that prune less, and ratios have none: try `swaps`")
        images = self.images.take(slice(ask.images.start, ask.images.stop))
        found = [evaluate(channels_last(self.pruned(ratios_of(SPACE, rank))), images) for rank in ask.ranks]
        return Judged(
            loss_M=np.array([one.loss for one in found]),
            accuracy_M=np.array([one.accuracy for one in found]),
            standard_error_M=np.zeros(len(found)),
        )


def search_ratios(judge: RatioJudge, hunt: Hunt, progress: Progress, keep: Path | None = None) -> Found:
    """What the hunt finds; its masks are ratios by `ratios_of(SPACE, rank)`.

    With `keep`, losses are kept in that file, from which the same search goes on after a kill. `ModelError` where the
    network has no such groups, `SpecError` for a search that does not serve.
    """
    weight_groups(judge.net, judge.select)
    identity = f"{sorted(judge.select)} {judge.k:g} {hunt.method} {hunt.seed}".encode() + state_bytes(judge.net)
    digest = sha256(identity + _content(judge.images)).hexdigest()
    return search(Memory(judge, keep, digest, at_once=1), SPACE, len(judge.images), hunt, progress=progress)


def _content(images: Examples) -> bytes:
    """What the images are, by their values."""
    tensors = (value for value in vars(images).values() if hasattr(value, "cpu"))
    return b"".join(sha256(tensor.cpu().contiguous().numpy().tobytes()).digest() for tensor in tensors)
