"""Networks with every structure in which channels lose their way: what the search for sites is tried on."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Around(nn.Module):
    """A convolution before and one behind an operation of the user's choice."""

    def __init__(self, between: Callable[[Tensor], Tensor], width: int = 8, inputs: int = 8) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(3, width, 3), nn.Conv2d(inputs, 6, 3), nn.Linear(6, 5)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.between(self.conv(x))).relu().mean((2, 3)))  # type: ignore[no-any-return]


def shuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class Flat(nn.Module):
    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.flatten = nn.Conv2d(3, 6, 3, stride=4), flatten
        self.hidden, self.head = nn.Linear(6 * 16, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.flatten(F.adaptive_avg_pool2d(self.conv(x), 4)))))  # type: ignore[no-any-return]


class Dense(nn.Module):
    """DenseNet: every layer sees all before it, through a BatchNorm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * place) for place in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * place, 4, 3, padding=1) for place in range(3))
        self.norm, self.head = nn.BatchNorm2d(18), nn.Linear(18, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            found.append(conv(F.relu(norm(torch.cat(found, 1)))))
        return self.head(F.relu(self.norm(torch.cat(found, 1))).mean((2, 3)))  # type: ignore[no-any-return]


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.middle, self.norm = nn.Conv2d(8, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.up, self.join = nn.ConvTranspose2d(10, 7, 2, stride=2), nn.Conv2d(13, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.down1(x))
        two = F.gelu(self.down2(one))
        x = torch.cat([self.up(F.silu(self.norm(self.middle(two)))), one], 1)
        return self.head(F.relu(self.join(x)).amax((2, 3)))  # type: ignore[no-any-return]


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, 3, 1), nn.Conv2d(3, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """MobileNet's block: wider, depthwise, gated, narrower, added."""

    def __init__(self, width: int = 6, wide: int = 12) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depthwise, self.norm2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide)
        self.gate = Gate(wide)
        self.project, self.norm3 = nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.norm1(self.expand(x)))
        y = self.gate(F.hardswish(self.norm2(self.depthwise(y))))
        return x + self.norm3(self.project(y))  # type: ignore[no-any-return]


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 6, 3, stride=2), nn.Sequential(Inverted(), Inverted())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))  # type: ignore[no-any-return]


class ShuffleUnit(nn.Module):
    """ShuffleNetV2: half of the channels pass by, then both halves are shuffled."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.conv1, self.depthwise = nn.Conv2d(half, half, 1), nn.Conv2d(half, half, 3, padding=1, groups=half)
        self.conv2 = nn.Conv2d(half, half, 1)

    def forward(self, x: Tensor) -> Tensor:
        by, through = x.chunk(2, 1)
        through = F.relu(self.conv2(self.depthwise(F.relu(self.conv1(through)))))
        return shuffled(torch.cat([by, through], 1))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.units = nn.Conv2d(3, 8, 3), nn.Sequential(ShuffleUnit(4), ShuffleUnit(4))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class GroupedShuffle(nn.Module):
    """ShuffleNet: convolutions in groups with a shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.shuffle = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 1, groups=2), nn.ChannelShuffle(2)
        self.two, self.last, self.head = nn.Conv2d(16, 8, 3, groups=2), nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.two(self.shuffle(self.one(F.relu(self.stem(x))))).relu()).mean((2, 3)))  # type: ignore[no-any-return]


class LayerNorm2d(nn.Module):
    """Layer normalisation over channels, written by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class NextBlock(nn.Module):
    """ConvNeXt's block: depthwise, channels last, layer scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 12), nn.Linear(12, width)
        self.scale = nn.Parameter(1e-6 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.narrow(F.gelu(self.wide(y)))).permute(0, 3, 1, 2)


class Next(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 4, stride=4), LayerNorm2d(6)
        self.blocks, self.head = nn.Sequential(NextBlock(6), NextBlock(6)), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.norm(self.stem(x))).mean((-2, -1)))  # type: ignore[no-any-return]


class Standardised(nn.Conv2d):
    """Its weights are standardised in each forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        variance = self.weight.var((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / torch.sqrt(variance + 1e-5), self.bias)


class Own(nn.Conv2d):
    """A convolution by another name."""


class Split(nn.Module):
    """Halves of one layer's outputs to different layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(x).chunk(2, 1)
        return self.head((self.left(left) * torch.sigmoid(self.right(right))).mean((2, 3)))  # type: ignore[no-any-return]


class FixedSplit(Split):
    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(x).split(4, 1)
        return self.head((self.left(left) + self.right(right)).mean((2, 3)))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """One layer used in two places, and one tensor beside itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
        self.join, self.head = nn.Conv2d(12, 7, 1), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(F.relu(self.shared(F.relu(self.stem(x)))))
        return self.head(F.leaky_relu(self.join(torch.cat([x, -x], 1))).mean((2, 3)))  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Two modules with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3)
        self.two.weight = self.one.weight
        self.last, self.head = nn.Conv2d(6, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.two(self.one(self.stem(x)).relu()).relu()).mean((2, 3)))  # type: ignore[no-any-return]


class Parameters(nn.Module):
    """Gates and offsets that are bare parameters and buffers, a functional convolution, an einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 6, 3), nn.Parameter(torch.rand(1, 6, 1, 1))
        self.offset, self.map = nn.Parameter(torch.rand(6, 1, 1)), nn.Parameter(torch.rand(1, 1, 30, 30))
        self.kernel, self.head = nn.Parameter(torch.rand(7, 6, 3, 3)), nn.Linear(7, 5)
        self.register_buffer("shift", torch.rand(6))
        self.slope = nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) * self.gate + self.offset.clamp(min=0.1) + self.map
        x = self.slope(x - self.shift.view(1, -1, 1, 1))  # type: ignore[operator]
        return self.head(F.conv2d(x, self.kernel).mean((2, 3)))  # type: ignore[no-any-return]


class Written(nn.Module):
    """Results written into a tensor made beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        both = torch.zeros(len(x), left.shape[1] + right.shape[1], *left.shape[2:], dtype=x.dtype)
        both[:, : left.shape[1]] = left
        both[:, left.shape[1] :] = right
        return self.head(self.last(both.relu_()).mean((2, 3)))  # type: ignore[no-any-return]


class PreActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1, self.conv1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 9, 3, padding=1)
        self.norm2, self.conv2, self.norm = nn.BatchNorm2d(9), nn.Conv2d(9, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x += self.conv2(F.softplus(self.norm2(self.conv1(torch.sigmoid(self.norm1(x))))))
        return self.head(F.elu(self.norm(x)).flatten(2).mean(2))  # type: ignore[no-any-return]


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.a, self.b1, self.b2, self.c = (
            nn.Conv2d(6, 4, 1),
            nn.Conv2d(6, 5, 1),
            nn.Conv2d(5, 4, 3, padding=1),
            nn.Conv2d(6, 3, 1),
        )
        self.last, self.head = nn.Conv2d(17, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        parts = [self.a(x), self.b2(F.relu(self.b1(x))), self.c(F.max_pool2d(x, 3, 1, 1)), x]
        return self.head(self.last(torch.cat(parts, 1)).mean((2, 3)))  # type: ignore[no-any-return]


class Volumes(nn.Module):
    """Signals and volumes out of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.signal, self.norm1 = nn.Conv2d(3, 6, 3, stride=2), nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8)
        self.back, self.volume, self.norm3 = nn.ConvTranspose1d(8, 5, 3), nn.Conv3d(5, 6, (1, 1, 3)), nn.BatchNorm3d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.signal(self.stem(x).flatten(2))))
        x = self.back(x)[:, :, None, None]
        return self.head(F.relu(self.norm3(self.volume(x))).mean((2, 3, 4)))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A recurrent layer beside convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 4, 3, stride=2)
        self.memory, self.hidden, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.conv(x).relu()).flatten(2).mT
        return self.head(self.hidden(self.memory(x)[0][:, -1]).relu())  # type: ignore[no-any-return]


class Sequence(nn.Module):
    """The pixels of a convolution one after another through a recurrent layer, of whose answer `read` makes features."""

    def __init__(self, memory: nn.RNNBase, features: int, read: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        self.conv, self.memory, self.read = nn.Conv2d(3, 6, 3, stride=8), memory, read
        self.hidden, self.head = nn.Linear(features, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().flatten(2).mT
        output, state = self.memory(x if self.memory.batch_first else x.transpose(0, 1))
        output = output if self.memory.batch_first else output.transpose(0, 1)
        return self.head(self.hidden(self.read(output, state)).relu())  # type: ignore[no-any-return]


def ends(_output: Tensor, state: Any) -> Tensor:
    """The last states of both directions of the last layer, side by side."""
    hidden = state[0] if isinstance(state, tuple) else state
    return torch.cat([hidden[-2], hidden[-1]], 1)


class Answered(nn.Module):
    """A recurrent layer that begins where another one ended, image by image without a dimension of images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.asks, self.answers = nn.Conv2d(3, 6, 3, stride=8), nn.GRU(6, 8), nn.GRU(6, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for steps in self.conv(x).relu().flatten(2).permute(0, 2, 1):
            _, state = self.asks(steps)
            found.append(self.head(self.answers(steps.flip(0), state)[0][-1]))
        return torch.stack(found)


class Cell(nn.Module):
    """A recurrent cell, step by step, that starts where a layer says."""

    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.conv, self.cell, self.start = nn.Conv2d(3, 6, 3, stride=8), cell, nn.Linear(6, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().flatten(2)
        hidden = state = self.start(x.mean(2))
        for step in x.unbind(2):
            if isinstance(self.cell, nn.LSTMCell):
                hidden, state = self.cell(step, (hidden, state))
            else:
                hidden = self.cell(step, hidden)
        return self.head(hidden)  # type: ignore[no-any-return]


class Started(nn.Module):
    """Recurrent layers that start at zeros of a size that is written down beside them; the second sees the first's cells."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size = 6
        self.conv, self.first = nn.Conv2d(3, 4, 3, stride=8), nn.LSTM(4, self.hidden_size, batch_first=True)
        self.second, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 5)
        self.between = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).mT
        zeros = torch.zeros(1, len(x), self.hidden_size, dtype=x.dtype)
        x, (_, cells) = self.first(x, (zeros, zeros))
        return self.head(self.second(x + cells[0][:, None].tanh(), self.between.expand(-1, len(x), -1))[0].amax(1))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """The pixels of a convolution as tokens, behind one that is learned, through layers of attention."""

    def __init__(self, layers: nn.Module, *, batch_first: bool = True) -> None:
        super().__init__()
        self.stem, self.first, self.layers = nn.Conv2d(3, 8, 8, stride=8), nn.Parameter(torch.randn(1, 1, 8)), layers
        self.batch_first, self.head = batch_first, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).mT
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        if isinstance(self.layers, nn.TransformerDecoderLayer):
            return self.head(self.layers(x[:, :1], x[:, 1:])[:, 0])  # type: ignore[no-any-return]
        x = self.layers(x) if self.batch_first else self.layers(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x[:, 0])  # type: ignore[no-any-return]


class Asked(nn.Module):
    """Learned questions to the pixels, by torch's attention, whose answers are of another width than what goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 8, 8, stride=8), nn.MultiheadAttention(8, 4, bias=False)
        self.questions, self.hidden, self.head = nn.Parameter(torch.randn(3, 1, 8)), nn.Linear(24, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).permute(2, 0, 1)
        answers, _ = self.attention(self.questions.expand(-1, x.shape[1], -1), x, x.tanh(), need_weights=False)
        return self.head(F.gelu(self.hidden(answers.transpose(0, 1).flatten(1))))  # type: ignore[no-any-return]


class Normed(nn.Module):
    """Weights that are a direction times a magnitude: of a convolution in groups, a transposed one, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.weight_norm
        self.stem, self.depthwise = normed(nn.Conv2d(3, 6, 3)), normed(nn.Conv2d(6, 6, 3, groups=6))
        self.up, self.norm = normed(nn.ConvTranspose2d(6, 8, 2)), nn.BatchNorm2d(8)
        self.one, self.two, self.head = (
            normed(nn.Linear(8, 7), dim=None),
            normed(nn.Linear(7, 9), dim=1),
            normed(nn.Linear(9, 5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.up(self.depthwise(self.stem(x).relu()))).relu().mean((2, 3))
        return self.head(self.two(self.one(x).relu()).relu())  # type: ignore[no-any-return]


class Padded(nn.Module):
    """A shortcut that pads channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = (
            nn.Conv2d(3, 4, 3),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.Conv2d(6, 8, 3, padding=1),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((F.pad(x, (0, 0, 0, 0, 2, 2)) + self.conv2(F.relu(self.conv1(x)))).mean((2, 3)))  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """Tokens mixed by a linear layer, channels by another."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm1, self.norm2 = nn.Conv2d(3, 6, 8, stride=8), nn.LayerNorm(6), nn.LayerNorm(6)
        self.tokens1, self.tokens2, self.channels1, self.channels2 = (
            nn.Linear(16, 9),
            nn.Linear(9, 16),
            nn.Linear(6, 10),
            nn.Linear(10, 6),
        )
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = x + self.tokens2(F.gelu(self.tokens1(self.norm1(x).mT))).mT
        x = x + self.channels2(F.gelu(self.channels1(self.norm2(x))))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Channel and spatial attention, and non-local products."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spatial = nn.Conv2d(3, 6, 3, stride=4), nn.Conv2d(2, 1, 3, padding=1)
        self.query, self.key, self.value, self.out = (nn.Conv2d(6, 4, 1) for _ in range(4))
        self.out = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * torch.sigmoid(self.spatial(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.einsum("bct,bcs->bts", query, key).softmax(2)
        x = x + self.out((value @ weights.mT).unflatten(2, x.shape[2:]))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def encoder_layer(**more: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 12, **{"activation": "gelu", "batch_first": True, **more})


def around(between: Callable[[Tensor], Tensor], width: int = 8, inputs: int = 8) -> Callable[[], nn.Module]:
    return lambda: Around(between, width, inputs)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "shuffle by hand": around(shuffled),
    "ChannelShuffle": around(nn.ChannelShuffle(4)),
    "flipped": around(lambda x: x.flip(1)),
    "rolled": around(lambda x: x.roll(3, 1)),
    "permuted by an index": around(lambda x: x[:, [3, 1, 0, 2, 7, 6, 5, 4]]),
    "interleaved": around(lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2), 4),
    "PixelShuffle": around(nn.PixelShuffle(2), 32),
    "PixelUnshuffle": around(lambda x: F.pixel_unshuffle(x[:, :, :28, :28], 2), 2),
    "GLU": around(nn.GLU(1), 16),
    "gate by halves": around(lambda x: x.chunk(2, 1)[0] * torch.sigmoid(x.chunk(2, 1)[1]), 16),
    "GroupNorm": around(nn.GroupNorm(4, 8)),
    "GroupNorm of one group": around(nn.GroupNorm(1, 8)),
    "LayerNorm over all": around(nn.LayerNorm([8, 30, 30])),
    "LayerNorm without factors": around(nn.LayerNorm([8, 30, 30], elementwise_affine=False)),
    "LayerNorm by hand": around(LayerNorm2d(8)),
    "InstanceNorm": around(nn.InstanceNorm2d(8, affine=True)),
    "softmax": around(lambda x: x.softmax(1)),
    "normalize": around(lambda x: F.normalize(x, dim=1)),
    "response norm": around(nn.LocalResponseNorm(3)),
    "groups": around(nn.Conv2d(8, 8, 3, groups=4)),
    "two groups": around(nn.Conv2d(8, 8, 3, groups=2)),
    "depthwise, wider": around(nn.Conv2d(4, 8, 3, groups=4), 4),
    "standardised weights": around(Standardised(8, 8, 3)),
    "a subclass": around(Own(8, 8, 3)),
    "transposed": around(nn.ConvTranspose2d(8, 8, 2, stride=2)),
    "transposed in groups": around(nn.ConvTranspose2d(8, 8, 2, stride=2, groups=4)),
    "weight_norm": around(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))),
    "circular padding": around(nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")),
    "reflected padding": around(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
    "upsampled": around(nn.Upsample(scale_factor=2, mode="bilinear")),
    "maxout": around(lambda x: x.unflatten(1, (-1, 2)).amax(2), 16),
    "over the channels": around(lambda x: x - x.mean(1, keepdim=True)),
    "cumulative": around(lambda x: x.cumsum(1)),
    "sorted": around(lambda x: x.sort(1).values),
    "channels first and last": around(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
    "flattened": lambda: Flat(lambda x: x.flatten(1)),
    "flattened, channels last": lambda: Flat(lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1)),
    "DenseNet": Dense,
    "U-Net": UNet,
    "MobileNet": Mobile,
    "ShuffleNetV2": Shuffle,
    "ShuffleNet": GroupedShuffle,
    "ConvNeXt": Next,
    "split": Split,
    "split at a written size": FixedSplit,
    "used twice": Twice,
    "tied": Tied,
    "parameters": Parameters,
    "written into": Written,
    "pre-activation": PreActivation,
    "Inception": Inception,
    "volumes": Volumes,
    "LSTM beside": Recurrent,
    "LSTM of two layers, both ways": lambda: Sequence(nn.LSTM(6, 5, 2, bidirectional=True), 10, ends),
    "LSTM that projects": lambda: Sequence(nn.LSTM(6, 7, 2, proj_size=4, bidirectional=True), 8, ends),
    "LSTM without biases": lambda: Sequence(nn.LSTM(6, 5, bias=False), 5, lambda _, state: state[1][-1]),
    "GRU": lambda: Sequence(nn.GRU(6, 5, 3, batch_first=True), 80, lambda output, _: output.flatten(1)),
    "RNN": lambda: Sequence(nn.RNN(6, 5, nonlinearity="relu"), 5, lambda output, _: output.mean(1)),
    "LSTM cell": lambda: Cell(nn.LSTMCell(6, 8), 8),
    "GRU cell": lambda: Cell(nn.GRUCell(6, 8, bias=False), 8),
    "RNN cell": lambda: Cell(nn.RNNCell(6, 8), 8),
    "recurrent, started": Started,
    "recurrent, answered": Answered,
    "layers of attention": lambda: Tokens(
        nn.TransformerEncoder(encoder_layer(norm_first=True), 2, nn.LayerNorm(8), False)
    ),
    "layers of attention, pixels first": lambda: Tokens(encoder_layer(batch_first=False), batch_first=False),
    "decoder layer": lambda: Tokens(nn.TransformerDecoderLayer(8, 2, 12, batch_first=True)),
    "asked": Asked,
    "weights normalised": Normed,
    "padded shortcut": Padded,
    "Mixer": Mixer,
    "attention": Attention,
}
