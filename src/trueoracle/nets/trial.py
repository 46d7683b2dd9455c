"""Removal tried out before work is built on it: whatever a network's forward pass does, no removal goes wrong unsaid."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trueoracle.nets.probe import logits_of_noise
from trueoracle.nets.removal import remove
from trueoracle.nets.sites import HEADS, Role, Sites
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask
from trueoracle.words.shape import Shape

_TOLERANCE = 1e-3  # of the largest logit: float32 after dozens of layers


def try_removal(net: nn.Module, mask: Mask, sites: Sites, shape: Shape) -> None:
    """`ModelError` naming the site, where the network without the mask's units is not what it should be.

    It must be smaller and take the same images or texts; without heads it must compute what the whole network
    computes with those heads silent. The mask is tried whole, and only if that fails, site by site, to name one.
    """
    if (fault := _fault(net, mask, sites, shape)) is None:
        return
    for part in mask.sites:
        alone = replace(mask, sites=(part,))
        if (own := _fault(net, alone, sites, shape)) is not None:
            raise ModelError(f"`{part.site}` cannot be pruned: {own}: leave it out")
    names = ", ".join(f"`{part.site}`" for part in mask.sites)
    raise ModelError(f"{names} cannot be pruned together: {fault}")


def _fault(net: nn.Module, mask: Mask, sites: Sites, shape: Shape) -> str | None:
    """What is wrong with the network without the mask's units, if anything is."""
    try:
        pruned = remove(net, mask, sites)
        with torch.inference_mode():
            logits_of_noise(pruned, shape, 2)
    except Exception as error:  # whatever a user's forward pass raises when a layer is smaller than it expects
        return (
            f"without some of its units the forward pass fails ({error}), for sizes are written into it or it ties "
            "units in a way that tracing cannot see"
        )
    if _parameters(pruned) >= _parameters(net):
        return "its removal would change nothing"
    heads = replace(mask, sites=tuple(part for part in mask.sites if sites[part.site].kind in HEADS))
    if heads.sites and not _is_silence(net, heads, sites, shape):
        return (
            "the network without some of its heads is not the network with those heads silent, so the forward pass "
            "mixes heads in a way that is not known"
        )
    return None


def _is_silence(net: nn.Module, mask: Mask, sites: Sites, shape: Shape) -> bool:
    with torch.inference_mode():
        found = logits_of_noise(remove(net, mask, sites), shape, 2)
        with silenced(net, mask, sites):
            wanted = logits_of_noise(net, shape, 2)
    return torch.allclose(found, wanted, rtol=0, atol=_TOLERANCE * float(wanted.abs().max()))


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
