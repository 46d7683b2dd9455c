"""Inputs to try networks with, images, noisy ones and texts alike.

Letters: B examples, C channels, H x W pixels, T tokens.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trueoracle.nets.text import vocabulary
from trueoracle.words.shape import NoiseShape, Shape, TextShape

_LEVEL = 500  # of noise, in the middle


def logits_of_noise(net: nn.Module, shape: Shape, examples: int, tokens: int = 8) -> Tensor:
    """What `net` answers to random images, or to random texts of so many tokens; always the same ones.

    Asked for the noise in images, it answers with that.

    A network in float64 answers in float64 throughout, also where it rounds to float32 on its way.
    """
    weight = next(net.parameters())
    doubles = _InDoubles() if weight.dtype == torch.float64 else nullcontext()  # type: ignore[no-untyped-call]
    with doubles:
        return _logits_of_noise(net, weight, shape, examples, tokens)


def _logits_of_noise(net: nn.Module, weight: Tensor, shape: Shape, examples: int, tokens: int) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    if isinstance(shape, TextShape):
        tokens_BT = torch.randint(vocabulary(net), (examples, tokens), generator=chance)
        logits_BTV: Tensor = net(input_ids=tokens_BT.to(weight.device), use_cache=False).logits
        return logits_BTV
    images_BCHW = torch.randn(examples, shape.channels, shape.height, shape.width, generator=chance).to(weight)
    if isinstance(shape, NoiseShape):
        told_BCHW: Tensor = net(images_BCHW, torch.full((examples,), _LEVEL, device=weight.device))
        return told_BCHW
    logits_BK: Tensor = net(images_BCHW)
    return logits_BK


class _InDoubles(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What would become float32 becomes float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ == "_to_copy" and kwargs.get("dtype") == torch.float32:
            kwargs = {**kwargs, "dtype": torch.float64}
        return func(*args, **kwargs)
