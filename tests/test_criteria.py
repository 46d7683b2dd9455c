"""Criteria on layers small enough to check by hand, and on every kind of site."""

import pytest
import torch
from torch import Tensor, nn

from trueoracle.criteria import CRITERIA, CannotJudge, importances, score
from trueoracle.nets import build, find_sites
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=1, height=4, width=4, classes=2)
COLOUR = InputShape(channels=3, height=32, width=32, classes=10)


class Two(nn.Module):
    """A convolution of two 1x1 filters with BatchNorm, and a linear layer of two neurons, before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 2, stride=2), nn.BatchNorm2d(2)
        self.hidden, self.head = nn.Linear(2, 2), nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]], [[[0.0, 0.0], [0.0, -4.0]]]]))
            self.norm.weight.copy_(torch.tensor([-0.5, 0.25]))
            self.hidden.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -1.0]]))
            self.conv.bias.fill_(100)  # type: ignore[union-attr]
            self.hidden.bias.fill_(100)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.norm(self.conv(x)).mean((2, 3))).relu())


@pytest.mark.parametrize(
    ("criterion", "conv", "hidden"),
    [
        ("l1", [1.5, 1.0], [3.5, 0.5]),
        ("l2", [14**0.5 / 2, 2.0], [12.5**0.5, 0.5**0.5]),
        ("bn_scale", [0.5, 0.25], None),
    ],
)
def test_values_by_hand(criterion: str, conv: list[float], hidden: list[float] | None) -> None:
    net = Two()
    sites = find_sites(net, SHAPE)
    for site, wanted in (("conv", conv), ("hidden", hidden)):
        if wanted is None:
            with pytest.raises(CannotJudge, match=f"no BatchNorm with scales follows the units of `{site}`"):
                CRITERIA[criterion](net, sites[site])
        else:
            assert CRITERIA[criterion](net, sites[site]).tolist() == pytest.approx(wanted)


def test_random_numbers_are_a_sites_own_and_the_same_every_time() -> None:
    sites = find_sites(build("resnet20", COLOUR), COLOUR)
    first, again, other = (
        CRITERIA["random"](nn.Identity(), sites[site])
        for site in ("layer1.0.conv1", "layer1.0.conv1", "layer1.1.conv1")
    )
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]
    assert first.unique().numel() == 16  # type: ignore[union-attr]


def test_a_criterion_that_cannot_judge_a_site_judges_no_mask_of_it() -> None:
    net = Two()
    sites = find_sites(net, SHAPE)
    assert set(importances(net, {"conv": sites["conv"]})) == {"l1", "l2", "bn_scale", "random"}
    both = importances(net, dict(sites))
    assert set(both) == {"l1", "l2", "random"}
    parts = (SiteMask(site="conv", units=2, kept=(1,)), SiteMask(site="hidden", units=2, kept=(0,)))
    assert score(Mask(rank=0, sites=parts), both["l1"]) == pytest.approx(1.5 + 0.5)


def test_every_kind_of_unit_has_an_importance() -> None:
    net = build("vit-b16", COLOUR, width_factor=1 / 6)
    sites = find_sites(net, COLOUR)
    for values in importances(net, dict(sites)).values():
        assert {name: len(units) for name, units in values.items()} == {s.name: s.units for s in sites.values()}
        assert all(units.dtype == torch.float64 and units.isfinite().all() for units in values.values())
