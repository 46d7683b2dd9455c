"""Inputs to try networks with, images and texts alike.

Letters: B examples, C channels, H x W pixels, T tokens.
"""

import torch
from torch import Tensor, nn

from trueoracle.nets.text import vocabulary
from trueoracle.words.shape import Shape, TextShape


def logits_of_noise(net: nn.Module, shape: Shape, examples: int, tokens: int = 8) -> Tensor:
    """What `net` answers to random images, or to random texts of so many tokens; always the same ones."""
    weight = next(net.parameters())
    chance = torch.Generator().manual_seed(0)
    if isinstance(shape, TextShape):
        tokens_BT = torch.randint(vocabulary(net), (examples, tokens), generator=chance)
        logits_BTV: Tensor = net(input_ids=tokens_BT.to(weight.device), use_cache=False).logits
        return logits_BTV
    images_BCHW = torch.randn(examples, shape.channels, shape.height, shape.width, generator=chance)
    logits_BK: Tensor = net(images_BCHW.to(weight))
    return logits_BK
