"""A layer that sums over units, for many masks: by contributions summed per mask, or by zeroing its input.

Letters: P rows of the input (prefixes), R rows of the result, B images, U units, F features of a unit, D outputs.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Contributions cost a few ordinary runs of the layer; below so many masks a prefix, zeroing is cheaper.
WORTHWHILE = 4


@dataclass(frozen=True, kw_only=True)
class Summing:
    """A convolution or linear layer whose inputs are `units` units of a site, each with its share of features."""

    layer: nn.Conv2d | nn.Linear
    units: int

    def masked(self, x: Tensor, prefix_R: Tensor, kept_RU: Tensor, images: int) -> Tensor:
        """The layer on its input with the units that go at zero. `x`: (P x B, U x F, ...) -> (R x B, D, ...)."""
        rows = x.view(-1, images, *x.shape[1:])[prefix_R]
        kept = kept_RU.repeat_interleave(x.shape[1] // self.units, dim=1)
        kept = kept.view(len(kept), 1, -1, *[1] * (x.ndim - 2))
        result: Tensor = self.layer(rows.mul_(kept).flatten(0, 1))
        return result

    def parts(self, x: Tensor, images: int) -> Tensor:
        """What each unit adds to the result, and behind them the bias: (P, U + 1, B, ..., D), pixels before D."""
        of_units = self._convolved(x, images) if isinstance(self.layer, nn.Conv2d) else self._multiplied(x, images)
        parts = of_units.new_empty(of_units.shape[0], self.units + 1, *of_units.shape[2:])
        parts[:, :-1] = of_units
        parts[:, -1] = 0 if self.layer.bias is None else self.layer.bias
        return parts

    def summed(self, parts: Tensor, starts: list[int], kept_RU: Tensor) -> Tensor:
        """The sums of parts; rows `starts[p]` to `starts[p + 1]` belong to prefix p. -> (R x B, D, ...)."""
        weights = F.pad(kept_RU, (0, 1), value=1.0)
        sums = parts.new_empty(len(kept_RU), *parts.shape[2:])
        flat = sums.flatten(1)
        for prefix, (start, stop) in enumerate(pairwise(starts)):
            torch.mm(weights[start:stop], parts[prefix].flatten(1), out=flat[start:stop])
        return sums.flatten(0, 1).movedim(-1, 1)

    def _convolved(self, x: Tensor, images: int) -> Tensor:
        layer = self.layer
        assert isinstance(layer, nn.Conv2d)
        weight = layer.weight.transpose(0, 1).flatten(0, 1)[:, None]
        whole = F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, groups=self.units)
        apart = whole.view(-1, images, self.units, layer.out_channels, *whole.shape[2:])
        return apart.permute(0, 2, 1, 4, 5, 3)

    def _multiplied(self, x: Tensor, images: int) -> Tensor:
        x_UNF = x.reshape(len(x), self.units, -1).transpose(0, 1)
        weight_UFD = self.layer.weight.view(-1, self.units, x_UNF.shape[2]).permute(1, 2, 0)
        sums_UND = torch.bmm(x_UNF, weight_UFD)
        return sums_UND.view(self.units, -1, images, sums_UND.shape[2]).transpose(0, 1)
