"""LeNet5-Mini, the paper's small network (arXiv 2412.00143), and its wider and deeper variants."""

import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape


class LeNet5Mini(nn.Module):
    """Three 5x5 convolutions of 10 filters and two linear layers, for 32x32 images.

    ReLU and 2x2 max-pooling follow the first two convolutions, ReLU the third. `width` filters in the first
    convolution make w20, w30, w40; `hidden` linear layers 10 -> 10 with ReLU before the last linear layer
    (1 in the plain network) make d6, d7, d8. State-dict keys: `conv1.weight` ... `fc<hidden + 1>.bias`.
    """

    def __init__(self, shape: InputShape, *, width: int = 10, hidden: int = 1) -> None:
        super().__init__()
        if (shape.height, shape.width) != (32, 32):
            raise ModelError(f"lenet5-mini takes 32x32 images, but got {shape}")
        self.conv1 = nn.Conv2d(shape.channels, width, 5)
        self.conv2 = nn.Conv2d(width, 10, 5)
        self.conv3 = nn.Conv2d(10, 10, 5)
        self._linear = [f"fc{i}" for i in range(1, hidden + 2)]
        for name in self._linear[:-1]:
            self.add_module(name, nn.Linear(10, 10))
        self.add_module(self._linear[-1], nn.Linear(10, shape.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, 32, 32) -> logits (B, K)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x)).flatten(1)
        *hidden, last = (self.get_submodule(name) for name in self._linear)
        for layer in hidden:
            x = F.relu(layer(x))
        logits: Tensor = last(x)
        return logits
