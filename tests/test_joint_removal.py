"""Sites that share a layer: what it loses is collected over all of them and cut once."""

import pytest
import torch
from torch import Tensor, nn

from trueoracle.nets import build, find_sites, remove
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

COLOUR = InputShape(channels=3, height=32, width=32, classes=10)


class Concatenating(nn.Module):
    """Two convolutions side by side, a BatchNorm over both, and a convolution that sums over both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(16)
        self.last, self.head = nn.Conv2d(16, 4, 3), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([self.left(x), self.right(x)], 1)).relu()
        return self.head(self.last(x).mean((2, 3)))  # type: ignore[no-any-return]


def numbered() -> nn.Module:
    """Every channel has its own number: what is left says where it came from."""
    net = Concatenating().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for place in range(16):
            net.norm.weight[place] = net.norm.running_mean[place] = net.last.weight[:, place] = place  # type: ignore[index]
        for place in range(8):
            net.left.weight[place], net.right.weight[place] = place, 8 + place
    return net


def half(left: tuple[int, ...], right: tuple[int, ...]) -> Mask:
    parts = (("left", left), ("right", right))
    return Mask(rank=0, sites=tuple(SiteMask(site=site, units=8, kept=kept) for site, kept in parts))


@pytest.mark.parametrize(
    ("left", "right"), [((4, 5, 6, 7), (4, 5, 6, 7)), ((0, 2, 7), (1, 3, 4, 5, 6)), ((0,), (7,)), ((7,), (0, 1, 2))]
)
def test_behind_a_concatenation_each_site_takes_its_own_channels(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    net = numbered()
    pruned = remove(net, half(left, right), find_sites(net, COLOUR))
    kept = [*left, *(8 + place for place in right)]
    assert pruned.left.weight[:, 0, 0, 0].tolist() == list(left)
    assert pruned.right.weight[:, 0, 0, 0].tolist() == kept[len(left) :]
    assert pruned.norm.weight.tolist() == kept
    assert pruned.norm.running_mean.tolist() == kept  # type: ignore[operator, union-attr]
    assert pruned.last.weight[0, :, 0, 0].tolist() == kept
    assert (pruned.norm.num_features, pruned.last.in_channels) == (len(kept), len(kept))


def test_released_takes_the_channels_of_the_l1_masks_from_what_follows() -> None:
    net = numbered()  # the L1 mask of half keeps the last filters, whose weights are largest
    pruned = remove(net, half((0, 1, 2, 3), (0, 1, 2, 3)), find_sites(net, COLOUR), "released")
    assert pruned.left.weight[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert pruned.right.weight[:, 0, 0, 0].tolist() == [8, 9, 10, 11]
    assert pruned.norm.weight.tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert pruned.last.weight[0, :, 0, 0].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


@pytest.mark.parametrize("model", ["lenet5-mini", "resnet20", "vgg19", "hf-resnet18", "hf-resnet50", "vit-b16"])
def test_no_built_in_network_concatenates(model: str) -> None:
    """Where no two sites lie in one side of a layer, cutting site after site was right too."""
    shape = COLOUR if model != "lenet5-mini" else InputShape(channels=1, height=32, width=32, classes=10)
    narrow = {} if model == "lenet5-mini" else {"width_factor": 0.25}
    sides: dict[tuple[str, object], str] = {}
    for site in find_sites(build(model, shape, **narrow), shape).values():  # type: ignore[arg-type]
        for cut in site.cuts:
            assert sides.setdefault((cut.layer, cut.role), site.name) == site.name
