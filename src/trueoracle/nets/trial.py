"""Removal tried out before work is built on it: whatever a network's forward pass does, no removal goes wrong unsaid."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.errors import ModelError
from trueoracle.mask import Mask
from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.removal import remove
from trueoracle.nets.sites import HEADS, Role, Sites
from trueoracle.shape import Shape

_TOLERANCE = 1e-3  # of the largest logit: float32 after dozens of layers


def try_removal(net: nn.Module, mask: Mask, sites: Sites, shape: Shape) -> None:
    """`ModelError` naming the site, where the network without the mask's units is not what it should be.

    It must be smaller and take the same images or texts; without heads it must compute what the whole network computes with
    those heads silent. Sites are tried one by one.
    """
    for part in mask.sites:
        alone = replace(mask, sites=(part,))
        try:
            pruned = remove(net, alone, sites)
            with torch.inference_mode():
                logits = logits_of_noise(pruned, shape, 2)
        except Exception as error:  # whatever a user's forward pass raises when a layer is smaller than it expects
            raise ModelError(
                f"`{part.site}` cannot be pruned: without some of its units the forward pass fails ({error}); sizes "
                f"written into it, or ties that tracing cannot see, stand in the way: leave `{part.site}` out"
            ) from error
        if _parameters(pruned) >= _parameters(net):
            raise ModelError(f"`{part.site}` cannot be pruned: its removal would change nothing; leave it out")
        if sites[part.site].kind in HEADS:
            with torch.inference_mode(), silenced(net, alone, sites):
                wanted = logits_of_noise(net, shape, 2)
            tolerance = _TOLERANCE * float(wanted.abs().max())
            if not torch.allclose(logits, wanted, rtol=0, atol=tolerance):
                raise ModelError(
                    f"`{part.site}` cannot be pruned: the network without some of its heads is not the network with "
                    f"those heads silent, so its forward pass mixes heads in a way that is not known; leave it out"
                )


@contextmanager
def silenced(net: nn.Module, mask: Mask, sites: Sites) -> Iterator[None]:
    """While it lasts, `net` runs with the pruned units at zero where layers sum over them: removal's slow twin."""
    hooks = [
        net.get_submodule(cut.layer).register_forward_pre_hook(_zeroes(cut.channels(part.pruned)))
        for part in mask.sites
        for cut in sites.named(part.site).cuts
        if cut.role is Role.CONSUMER
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _zeroes(channels: list[int]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Tensor, ...]]:
    def zero(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        values, *rest = inputs
        dim = 1 if isinstance(layer, nn.Conv2d) else -1
        return values.index_fill(dim, torch.tensor(channels, device=values.device), 0), *rest

    return zero


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
