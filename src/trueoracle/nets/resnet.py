"""Residual networks for 32x32 images (He et al., arXiv 1512.03385, section 4.2): ResNet20, 32, 44, 56, 110.

Letters: B images, C channels, H height, W width, K classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.nets.width import scaled
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape

_WIDTHS = (16, 32, 64)


class Shortcut(nn.Module):
    """Option A of the paper: no parameters; every `stride`-th pixel, zeros for the channels that are new."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + new, H / stride, W / stride), the new channels half before and half behind."""
        below = self.new // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, below, self.new - below))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut; ReLU after the first and after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else Shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, H / stride, W / stride)."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of `blocks` basic blocks with 16, 32, 64 filters, average, linear head.

    `width_factor` multiplies the filters. State-dict keys: `conv1`, `bn1`, `layer1.0.conv1` ...
    `layer3.<blocks - 1>.bn2`, `linear`.
    """

    def __init__(self, shape: InputShape, *, blocks: int, width_factor: float = 1.0) -> None:
        super().__init__()
        if (shape.height, shape.width) != (32, 32):
            raise ModelError(f"resnet{6 * blocks + 2} takes 32x32 images, but got {shape}")
        first, second, third = (scaled(width, width_factor) for width in _WIDTHS)
        self.conv1 = nn.Conv2d(shape.channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stage(first, first, 1, blocks)
        self.layer2 = _stage(first, second, 2, blocks)
        self.layer3 = _stage(second, third, 2, blocks)
        self.linear = nn.Linear(third, shape.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, 32, 32) -> logits (B, K)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
