"""VGG19 with BatchNorm for 32x32 images (after Simonyan and Zisserman, arXiv 1409.1556), as pruning papers have it."""

import torch.nn.functional as F
from torch import Tensor, nn

from trueoracle.nets.width import scaled
from trueoracle.words.errors import ModelError
from trueoracle.words.shape import InputShape

# Filters of each convolution, a tuple for each block; a max-pooling stands between two blocks.
_VGG19 = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)


class CifarVGG(nn.Module):
    """Blocks of 3x3 convolutions without bias, each with BatchNorm and ReLU, then the average and a linear head.

    2x2 max-pooling follows every block but the last. State-dict keys: `features.<place>`, `classifier`.
    `width_factor` multiplies the filters.
    """

    def __init__(
        self, shape: InputShape, *, blocks: tuple[tuple[int, ...], ...] = _VGG19, width_factor: float = 1.0
    ) -> None:
        super().__init__()
        if (shape.height, shape.width) != (32, 32):
            raise ModelError(f"vgg19 takes 32x32 images, but got {shape}")
        layers: list[nn.Module] = []
        channels = shape.channels
        for block in blocks:
            layers += [nn.MaxPool2d(2)] if layers else []
            for filters in (scaled(width, width_factor) for width in block):
                layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
                channels = filters
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, shape.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, 32, 32) -> logits (B, K)."""
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return logits
