"""Block-wise pruning of single weights, as CR-Diff (arXiv 2604.05524) does it: a ratio each for down, mid and up.

Of each group of blocks the smallest weights go, by one threshold over all of its layers; nothing is retrained and no
layer gets smaller. `Amplified` then asks the whole network too, and goes further in the direction in which pruning
changed what it says.

Letters: W weights of a group, B images, C channels, H x W pixels, T noise levels.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from trueoracle.nets.diffusion import Denoiser, schedule_of
from trueoracle.nets.masked import in_order, weight_shapes
from trueoracle.words.errors import ModelError, unknown
from trueoracle.words.mask import WeightGroup, WeightMask
from trueoracle.words.spec import pruned_count

GROUPS = {"down": "down_blocks.", "mid": "mid_block.", "up": "up_blocks."}
"""The groups of a UNet, and what the names of their layers begin with."""

Groups = dict[str, list[str]]
"""For each group, the names of the layers whose weights may go, in the order of the network's modules."""


def weight_groups(net: nn.Module, select: Sequence[str] = ()) -> Groups:
    """The layers that may lose weights: linear ones and convolutions within the blocks of a UNet.

    Without `select`, those that CR-Diff's code selects: self-attention and feed-forward layers, by `attn` or `ff` in
    their names, never cross-attention (`attn2`). `select` holds globs of names instead, for networks whose layers are
    called otherwise, such as `*attentions*` for `UNet2DModel`. `ModelError` where a group is empty.
    """
    unet, prefix = (net.model, "model.") if isinstance(net, Denoiser) else (net, "")
    layers = list(weight_shapes(unet))
    groups = {
        group: [prefix + name for name in layers if name.startswith(begin) and _selected(name, select)]
        for group, begin in GROUPS.items()
    }
    for group, names in groups.items():
        if not names:
            raise ModelError(_empty(type(unet).__name__, group, layers, select))
    return groups


def smallest(net: nn.Module, ratios: Mapping[str, float], groups: Groups) -> WeightMask:
    """The floor(ratio x weights) of each group that are smallest by magnitude; of equal weights the first.

    `ModelError` for an unknown group, or a ratio outside of [0, 1).
    """
    shapes = weight_shapes(net)
    parts, bits = [], []
    for group, names in _asked_groups(groups, ratios).items():
        layers = [net.get_submodule(name) for name in names]
        size_W = torch.cat([in_order(layer, layer.get_parameter("weight").detach().abs()) for layer in layers])
        gone_W = torch.zeros(len(size_W), dtype=torch.bool)
        gone_W[size_W.argsort(stable=True)[: pruned_count(len(size_W), ratios[group])].cpu()] = True
        kept = len(size_W) - int(gone_W.sum())
        of_layers = tuple((name, shapes[name]) for name in names)
        parts.append(WeightGroup(site=group, layers=of_layers, row=len(size_W), kept=kept))
        bits.append(np.packbits(gone_W.numpy()).tobytes())
    return WeightMask(groups=tuple(parts), bits=tuple(bits), criterion="magnitude")


def shuffled(mask: WeightMask, seed: int) -> WeightMask:
    """As many weights of every layer as `mask` takes, but drawn by `seed`: only which weights of a layer go differs."""
    chance = np.random.default_rng(seed)
    layers = mask.gone_by_layer
    groups = (
        WeightGroup(site=name, layers=((name, gone.shape),), row=gone.size, kept=gone.size - int(gone.sum()))
        for name, gone in layers.items()
    )
    bits = (np.packbits(chance.permutation(gone.reshape(-1))).tobytes() for gone in layers.values())
    return WeightMask(groups=tuple(groups), bits=tuple(bits))


class Amplified(nn.Module):
    """What the pruned network says, amplified: z = k x pruned + (1 - k) x dense, k >= 1; at k = 1 the pruned one alone."""

    def __init__(self, dense: nn.Module, pruned: nn.Module, k: float) -> None:
        super().__init__()
        if not 1 <= k < float("inf"):
            raise ModelError(f"`k`, the amplification, must be at least 1, but got {k:g}")
        self.dense, self.pruned, self.k = dense, pruned, k
        self.register_buffer("image_share_T", schedule_of(dense), persistent=False)

    def forward(self, images_BCHW: Tensor, level_B: Tensor) -> Tensor:
        """As its networks; both are asked where k is above 1."""
        pruned_BCHW: Tensor = self.pruned(images_BCHW, level_B)
        if self.k == 1:
            return pruned_BCHW
        dense_BCHW: Tensor = self.dense(images_BCHW, level_B)
        return self.k * pruned_BCHW + (1 - self.k) * dense_BCHW


def _asked_groups(groups: Groups, ratios: Mapping[str, float]) -> Groups:
    for group, ratio in ratios.items():
        if group not in groups:
            raise ModelError(unknown("group of blocks", group, groups))
        if not 0 <= ratio < 1:
            raise ModelError(f"the ratio of `{group}` must lie in [0, 1), but got {ratio:g}")
    return {group: names for group, names in groups.items() if group in ratios}


def _selected(name: str, select: Sequence[str]) -> bool:
    if select:
        return any(fnmatchcase(name, pattern) for pattern in select)
    return ("attn" in name or "ff" in name) and "attn2" not in name


def _empty(net: str, group: str, layers: Sequence[str], select: Sequence[str]) -> str:
    inside = [name for name in layers if name.startswith(GROUPS[group])]
    if not inside:
        return f"{net} has no layers in the group `{group}`, whose names begin with `{GROUPS[group]}`"
    rule = f"`{', '.join(select)}` selects" if select else "CR-Diff's rule (`attn` or `ff`, not `attn2`) selects"
    return f"{rule} no layer of the group `{group}` of {net}: give globs of names such as `{inside[0]}`"
