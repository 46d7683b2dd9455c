"""Structures that people write by hand, on 3x8x8 images: where channels are concatenated, split, shuffled, shared, gated.

Letters: B examples, C channels, H x W pixels, T tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HANDMADE: dict[str, Callable[[], nn.Module]] = {}
CLASSES = 5


class Net(nn.Module):
    """Modules, and a function of them and the images."""

    def __init__(self, forward: Callable[["Net", Tensor], Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.way = forward

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)


def structure(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    HANDMADE[make.__name__] = make
    return make


def conv(inputs: int, outputs: int, size: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **more)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def ending(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


@structure
def concatenation() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled(n.c(torch.cat([n.a(x).relu(), n.b(x).relu()], 1)).relu())),
        a=conv(3, 8),
        b=conv(3, 8),
        c=conv(16, 12),
        fc=nn.Linear(12, CLASSES),
    )


@structure
def densenet() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x)
        for norm, layer in ((n.norm1, n.conv1), (n.norm2, n.conv2)):
            x = torch.cat([x, layer(norm(x).relu())], 1)
        return n.fc(pooled(n.norm3(x).relu()))

    return Net(
        forward,
        stem=conv(3, 6),
        norm1=nn.BatchNorm2d(6),
        conv1=conv(6, 4),
        norm2=nn.BatchNorm2d(10),
        conv2=conv(10, 4),
        norm3=nn.BatchNorm2d(14),
        fc=nn.Linear(14, CLASSES),
    )


@structure
def inception() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x).relu()
        ways = [n.a(x), n.b2(n.b1(x).relu()), n.c(F.max_pool2d(x, 3, 1, 1))]
        return n.fc(pooled(n.norm(n.last(torch.cat(ways, 1).relu())).relu()))

    return Net(
        forward,
        stem=conv(3, 6),
        a=conv(6, 4, 1),
        b1=conv(6, 5, 1),
        b2=conv(5, 7),
        c=conv(6, 3, 1),
        last=conv(14, 9),
        norm=nn.BatchNorm2d(9),
        fc=nn.Linear(9, CLASSES),
    )


@structure
def unet() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        skip = n.down(x).relu()
        deep = n.up(n.deep(F.max_pool2d(skip, 2)).relu())
        return n.fc(pooled(n.last(torch.cat([skip, deep], 1)).relu()))

    return Net(
        forward,
        down=conv(3, 6),
        deep=conv(6, 10),
        up=nn.ConvTranspose2d(10, 7, 2, 2),
        last=conv(13, 8),
        fc=nn.Linear(8, CLASSES),
    )


@structure
def inverted_residual() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.norm0(n.stem(x))
        wide = n.norm2(n.depthwise(n.norm1(n.expand(x)).relu())).relu()
        return n.fc(pooled(x + n.norm3(n.project(wide))))

    return Net(
        forward,
        stem=conv(3, 8),
        norm0=nn.BatchNorm2d(8),
        expand=conv(8, 24, 1),
        norm1=nn.BatchNorm2d(24),
        depthwise=conv(24, 24, groups=24),
        norm2=nn.BatchNorm2d(24),
        project=conv(24, 8, 1),
        norm3=nn.BatchNorm2d(8),
        fc=nn.Linear(8, CLASSES),
    )


@structure
def depthwise_multiplier() -> nn.Module:
    return nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 12, groups=6), nn.ReLU(), conv(12, 8, 1), *ending(8))


@structure
def grouped() -> nn.Module:
    return nn.Sequential(
        conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 12, groups=4), nn.ReLU(), conv(12, 6), *ending(6)
    )


@structure
def resnext() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled((n.stem(x) + n.c(n.b(n.a(n.stem(x)).relu()).relu())).relu())),
        stem=conv(3, 8),
        a=conv(8, 16, 1),
        b=conv(16, 16, groups=4),
        c=conv(16, 8, 1),
        fc=nn.Linear(8, CLASSES),
    )


def shuffled(x: Tensor, groups: int) -> Tensor:
    B, C, H, W = x.shape
    return x.view(B, groups, C // groups, H, W).transpose(1, 2).reshape(B, C, H, W)


@structure
def channel_shuffle() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled(n.b(shuffled(n.a(x).relu(), 2)).relu())),
        a=conv(3, 8),
        b=conv(8, 6),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def shufflenet() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        left, right = n.stem(x).relu().chunk(2, 1)
        right = n.c(n.b(n.a(right).relu())).relu()
        return n.fc(pooled(n.last(shuffled(torch.cat([left, right], 1), 2)).relu()))

    return Net(
        forward,
        stem=conv(3, 8),
        a=conv(4, 4, 1),
        b=conv(4, 4, groups=4),
        c=conv(4, 4, 1),
        last=conv(8, 6),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def squeeze_excitation() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.a(x).relu()
        gate = n.up(n.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return n.fc(pooled(n.b(x * gate).relu()))

    return Net(forward, a=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), b=conv(8, 6), fc=nn.Linear(6, CLASSES))


@structure
def gated() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled(n.out(F.silu(n.gate(x)) * n.up(x)))),
        gate=conv(3, 8),
        up=conv(3, 8),
        out=conv(8, 6),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def chunked() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        a, b, c = n.a(x).chunk(3, 1)
        return n.fc(pooled(n.b(a * b.tanh() + c).relu()))

    return Net(forward, a=conv(3, 12), b=conv(4, 6), fc=nn.Linear(6, CLASSES))


@structure
def channels_last_flatten() -> nn.Module:
    return Net(
        lambda n, x: n.fc(n.a(x).relu().permute(0, 2, 3, 1).reshape(len(x), -1)),
        a=conv(3, 4),
        fc=nn.Linear(256, CLASSES),
    )


@structure
def flattened() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 12), nn.ReLU(), nn.Linear(12, CLASSES))


@structure
def flipped() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled(n.b(n.a(x).relu().flip(1)).relu())),
        a=conv(3, 8),
        b=conv(8, 6),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def group_norm() -> nn.Module:
    return nn.Sequential(conv(3, 16), nn.GroupNorm(4, 16), nn.ReLU(), conv(16, 6), *ending(6))


@structure
def pixel_shuffle() -> nn.Module:
    return nn.Sequential(conv(3, 16), nn.PixelShuffle(2), nn.ReLU(), conv(4, 6), *ending(6))


@structure
def used_twice() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled(n.b(n.b(n.a(x).relu()).relu()).relu())),
        a=conv(3, 8),
        b=conv(8, 8),
        fc=nn.Linear(8, CLASSES),
    )


@structure
def tied_weights() -> nn.Module:
    net = Net(
        lambda n, x: n.fc(pooled(n.c(n.b(n.a(x).relu()).relu()).relu())),
        a=conv(3, 8),
        b=conv(8, 8),
        c=conv(8, 8),
        fc=nn.Linear(8, CLASSES),
    )
    net.c.weight = net.b.weight
    return net


@structure
def frozen() -> nn.Module:
    net = concatenation()
    net.get_submodule("a").requires_grad_(False)
    return net


@structure
def conv1d() -> nn.Module:
    return Net(
        lambda n, x: n.fc(n.b(n.norm(n.a(x.flatten(2))).relu()).relu().mean(2)),
        a=nn.Conv1d(3, 8, 3),
        norm=nn.BatchNorm1d(8),
        b=nn.Conv1d(8, 6, 3),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def conv3d() -> nn.Module:
    return Net(
        lambda n, x: n.fc(n.b(n.norm(n.a(x[:, None])).relu()).relu().mean((2, 3, 4))),
        a=nn.Conv3d(1, 8, (2, 3, 3)),
        norm=nn.BatchNorm3d(8),
        b=nn.Conv3d(8, 6, (1, 3, 3)),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def lstm() -> nn.Module:
    return Net(
        lambda n, x: n.fc(n.lstm(tokens(n.b(n.a(x).relu()).relu()))[0][:, -1]),
        a=conv(3, 8),
        b=conv(8, 6),
        lstm=nn.LSTM(6, 10, batch_first=True),
        fc=nn.Linear(10, CLASSES),
    )


@structure
def gru() -> nn.Module:
    return Net(
        lambda n, x: n.fc(n.gru(tokens(n.b(n.a(x).relu()).relu()))[0].mean(1)),
        a=conv(3, 8),
        b=conv(8, 6),
        gru=nn.GRU(6, 7, num_layers=2, bidirectional=True, batch_first=True),
        fc=nn.Linear(14, CLASSES),
    )


@structure
def lstm_cell() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x).relu().flatten(2)
        state = (n.start(x.mean(2)), n.start(x.amax(2)))
        for step in x.unbind(2):
            state = n.cell(step, state)
        return n.fc(state[0])

    return Net(
        forward,
        stem=conv(3, 6, stride=2),
        start=nn.Linear(6, 10),
        cell=nn.LSTMCell(6, 10),
        fc=nn.Linear(10, CLASSES),
    )


@structure
def multihead_attention() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = tokens(n.stem(x))
        return n.fc((x + n.attention(x, x, x)[0]).mean(1))

    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    return Net(forward, stem=conv(3, 16), attention=attention, fc=nn.Linear(16, CLASSES))


@structure
def transformer_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0, batch_first=True)
    return Net(
        lambda n, x: n.fc(n.layer(tokens(n.stem(x))).mean(1)), stem=conv(3, 16), layer=layer, fc=nn.Linear(16, CLASSES)
    )


@structure
def transformer_encoder() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = torch.cat([n.first.expand(len(x), -1, -1), tokens(n.stem(x))], 1)
        return n.fc(n.encoder(x + n.places)[:, 0])

    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    return Net(
        forward,
        stem=nn.Conv2d(3, 16, 4, 4),
        first=nn.Parameter(torch.randn(1, 1, 16)),
        places=nn.Parameter(torch.randn(1, 5, 16)),
        encoder=nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False),
        fc=nn.Linear(16, CLASSES),
    )


@structure
def weight_norm() -> nn.Module:
    normed = nn.utils.parametrizations.weight_norm
    return nn.Sequential(normed(conv(3, 8)), nn.ReLU(), normed(conv(8, 6)), nn.ReLU(), conv(6, 6), *ending(6))


@structure
def functional() -> nn.Module:
    return Net(
        lambda n, x: n.fc(pooled(F.conv2d(n.a(x).relu(), n.weight).relu())),
        a=conv(3, 8),
        weight=nn.Parameter(torch.randn(6, 8, 1, 1)),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def layer_scale() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x)
        y = n.norm(n.depthwise(x).permute(0, 2, 3, 1))
        y = n.scale * n.down(F.gelu(n.up(y)))
        return n.fc(pooled(x + y.permute(0, 3, 1, 2)))

    return Net(
        forward,
        stem=conv(3, 8),
        depthwise=conv(8, 8, groups=8),
        norm=nn.LayerNorm(8),
        up=nn.Linear(8, 16),
        down=nn.Linear(16, 8),
        scale=nn.Parameter(torch.randn(8)),
        fc=nn.Linear(8, CLASSES),
    )


@structure
def prelu() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 6), nn.PReLU(), *ending(6))


@structure
def experts() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = pooled(n.stem(x).relu())
        share = n.router(x).softmax(1)
        return n.fc(sum(share[:, i : i + 1] * expert(x) for i, expert in enumerate(n.experts)))

    parts = [nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8)) for _ in range(3)]
    return Net(
        forward,
        stem=conv(3, 8),
        router=nn.Linear(8, 3),
        experts=nn.ModuleList(parts),
        fc=nn.Linear(8, CLASSES),
    )


@structure
def written_width() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = tokens(n.stem(x)).reshape(len(x), -1, n.width)
        return n.fc(n.hidden(x).relu().mean(1))

    net = Net(forward, stem=conv(3, 12), hidden=nn.Linear(12, 6), fc=nn.Linear(6, CLASSES))
    net.width = 12
    return net


@structure
def reduced_tokens() -> nn.Module:
    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x)
        reduced = n.reduction(x).reshape(*x.shape[:2], -1).transpose(1, 2)
        return n.fc(n.one(tokens(x)).relu().mean(1) + n.other(reduced).relu().mean(1))

    return Net(
        forward,
        stem=conv(3, 8),
        reduction=nn.Conv2d(8, 8, 2, stride=2),
        one=nn.Linear(8, 6),
        other=nn.Linear(8, 6),
        fc=nn.Linear(6, CLASSES),
    )


@structure
def modulated() -> nn.Module:
    """Focal modulation: of one layer's outputs some are modulated, some modulate, and two say how much."""

    def forward(n: Net, x: Tensor) -> Tensor:
        x = n.stem(x)
        width = x.shape[1]
        query, context, gates = n.made(x).split((width, width, 2), 1)
        context = n.depthwise(context).relu()
        modulator = n.mixed(context * gates[:, :1] + pooled(context)[:, :, None, None] * gates[:, 1:])
        return n.fc(pooled(x + n.out(query * modulator)))

    return Net(
        forward,
        stem=conv(3, 8),
        made=conv(8, 18, 1),
        depthwise=conv(8, 8, groups=8),
        mixed=conv(8, 8, 1),
        out=conv(8, 8, 1),
        fc=nn.Linear(8, CLASSES),
    )
