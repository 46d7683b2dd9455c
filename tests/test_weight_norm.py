"""Weight normalisation: what stays of a weight is what it was, whichever of its dimensions is cut."""

import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn

import zoo
from odd_networks import NETWORKS
from trueoracle.nets import find_sites, remove
from trueoracle.nets.cutting import cut_layer
from trueoracle.nets.sites import Role
from trueoracle.oracle.paths import evaluator
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.mask import Mask, SiteMask
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=3, height=32, width=32, classes=5)


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("role", [Role.PRODUCER, Role.CONSUMER])
def test_the_weights_that_stay_are_what_they_were(dim: int | None, role: Role) -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"layer": nn.utils.parametrizations.weight_norm(nn.Linear(4, 3), dim=dim)})
    with torch.no_grad():
        net.layer.parametrizations.weight.original0.mul_(2)  # type: ignore[union-attr, operator]
    whole = net.layer.weight.detach().clone()  # type: ignore[union-attr, operator]
    cut_layer(net, "layer", role, 0, [1], {})
    kept = whole[[0, 2]] if role is Role.PRODUCER else whole[:, [0, 2, 3]]
    torch.testing.assert_close(net.layer.weight, kept)
    assert [parameter.shape for _, parameter in net.layer.parametrizations.named_parameters()] == [  # type: ignore[union-attr]
        {0: (len(kept), 1), 1: (1, kept.shape[1]), None: ()}[dim],
        kept.shape,
    ]


def test_a_pruned_network_is_normalised_as_before_and_loads_its_weights() -> None:
    net = zoo.made(NETWORKS["weights normalised"])
    sites = find_sites(net, SHAPE)
    assert list(sites) == ["stem", "up", "one", "two"]
    mask = Mask(rank=0, sites=tuple(SiteMask(site=name, units=site.units, kept=(0, 2)) for name, site in sites.items()))
    pruned = remove(net, mask, sites)
    assert pruned.get_parameter("depthwise.parametrizations.weight.original1").shape == (2, 1, 3, 3)
    again = remove(zoo.made(NETWORKS["weights normalised"]), mask, sites)
    again.load_state_dict(pruned.state_dict())
    images = torch.randn(2, 3, 32, 32).double()
    assert torch.equal(again(images), pruned(images))
    trained = deepcopy(pruned).train()
    trained(images).sum().backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())


@pytest.mark.parametrize(
    ("site", "path"),
    [("conv", "loop: `between` (ParametrizedConv2d) mixes the units of `conv` in a way that is no sum"), ("between", "batched")],
)  # fmt: skip
def test_the_batched_oracle_sums_over_units_only_by_weights_that_are_given(site: str, path: str) -> None:
    net = zoo.made(NETWORKS["weight_norm"]).float()
    assert evaluator(net, MaskSpace((SiteChoice.at_ratio(site, 8, 0.5),)), SHAPE).path == path


def test_a_batchnorm_behind_normalised_weights_is_not_folded_into_them() -> None:
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 3))
    net = nn.Sequential(
        normed, nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    assert evaluator(net.eval(), MaskSpace((SiteChoice.at_ratio("0", 6, 0.5),)), SHAPE).path == "batched"


def by_hooks() -> nn.Sequential:
    """As torch did it before parametrizations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.utils.weight_norm
        return nn.Sequential(
            normed(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.ReLU(), normed(nn.Conv2d(6, 4, 3, groups=2)), nn.ReLU(),
            nn.Flatten(), normed(nn.Linear(64, 5)),
        )  # fmt: skip


def test_weights_that_a_hook_computes_in_front_of_each_pass() -> None:
    torch.manual_seed(0)
    net = by_hooks().eval()
    shape = InputShape(channels=3, height=8, width=8, classes=5)
    images = torch.randn(2, 3, 8, 8)
    net(images).sum().backward()  # now its weights are results, which torch does not copy
    sites = find_sites(net, shape)
    assert [(site.name, site.units) for site in sites.values()] == [("0", 2)]
    pruned = remove(net, Mask(rank=0, sites=(SiteMask(site="0", units=2, kept=(1,)),)), sites)
    with torch.no_grad():
        made = net[2](net[1](net[0](images)))
        made[:, :3] = 0
        made = net[4](net[3](made))
        made[:, :2] = 0
        torch.testing.assert_close(pruned(images), net[6](made.flatten(1)))
    assert pruned.get_submodule("0").weight_v.shape == (3, 3, 3, 3)  # type: ignore[union-attr]
    pruned.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in pruned.parameters())
    assert evaluator(net, MaskSpace((SiteChoice.at_ratio("0", 2, 0.5),)), shape).path.startswith("loop: ")
