"""The CIFAR networks: sizes known from the literature, names of public checkpoints, sites, removal."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from trueoracle.nets import Kind, Role, build, cost, find_sites, remove, state_bytes
from trueoracle.nets.vgg import CifarVGG
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.errors import ModelError
from trueoracle.words.mask import Mask
from trueoracle.words.shape import InputShape

SHAPE = InputShape(channels=3, height=32, width=32, classes=10)
BATCH_NORM = torch.nn.BatchNorm2d


def randomised(net: torch.nn.Module, seed: int) -> torch.nn.Module:
    """`net` in float64 with BatchNorm statistics and affine parameters as training leaves them: all different."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, BATCH_NORM):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return net.double()


def silenced(net: torch.nn.Module, mask: Mask, norms: dict[str, str], images: torch.Tensor) -> torch.Tensor:
    """Logits with the pruned units at zero behind their BatchNorm: removal without removing anything."""
    hooks = [
        net.get_submodule(norms[part.site]).register_forward_hook(
            lambda _module, _inputs, output, pruned=part.pruned: output.index_fill(1, torch.tensor(pruned), 0)
        )
        for part in mask.sites
    ]
    with torch.no_grad():
        logits = net(images)
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet20", 269_722), ("resnet32", 464_154), ("resnet56", 853_018), ("vgg19", 20_035_018)],
)
def test_parameters_are_those_of_the_literature(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(name, SHAPE).parameters()) == parameters


def test_multiply_accumulates_of_resnet56() -> None:
    # 125.49 M, as published.
    assert cost(build("resnet56", SHAPE), SHAPE).macs == 125_485_696


def test_state_names_are_those_of_public_checkpoints() -> None:
    resnet = build("resnet56", SHAPE).state_dict()
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer3.8.bn2.bias", "linear.bias"} <= set(
        resnet
    )
    vgg = build("vgg19", SHAPE).state_dict()
    assert {"features.0.weight", "features.1.running_mean", "features.49.weight", "classifier.weight"} <= set(vgg)
    assert "features.0.bias" not in vgg


def test_sites_of_a_resnet_are_the_first_convolutions_of_its_blocks_and_one_stream() -> None:
    # The others feed the residual streams, whose shortcuts pad the 16 channels of the first with those of the wider ones.
    sites = find_sites(build("resnet56", SHAPE), SHAPE)
    filters = [name for name, site in sites.items() if site.kind is Kind.FILTER]
    assert filters == ["conv1", *(f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(9))]
    stream = {cut.layer: cut.channels_UC[:, 0].tolist() for cut in sites["conv1"].cuts if cut.role is Role.PRODUCER}
    assert stream["layer1.8.conv2"] == list(range(16))
    assert stream["layer2.0.conv2"] == list(range(8, 24))
    assert stream["layer3.8.conv2"] == list(range(24, 40))
    with pytest.raises(ModelError, match="`layer2.0.conv2` is no site: its units are those of the site `conv1`"):
        sites.named("layer2.0.conv2")
    blocks = {name: site.units for name, site in sites.items() if site.kind is Kind.BLOCK}
    assert blocks == {"layer1": 9, "layer2": 8, "layer3": 8}  # all but those that change the number of filters
    assert [sites[f"layer{stage}.4.conv1"].units for stage in (1, 2, 3)] == [16, 32, 64]
    assert sites["layer2.0.conv1"].coupled == ("layer2.0.bn1", "layer2.0.conv2")


def test_sites_of_vgg19_are_all_convolutions() -> None:
    sites = find_sites(build("vgg19", SHAPE), SHAPE)
    assert [site.units for site in sites.values()] == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8


def resnet_case() -> tuple[torch.nn.Module, dict[str, str]]:
    sites = ("layer1.0.conv1", "layer2.0.conv1", "layer3.2.conv1")
    return randomised(build("resnet20", SHAPE, seed=1), seed=2), {site: site.replace("conv", "bn") for site in sites}


def vgg_case() -> tuple[torch.nn.Module, dict[str, str]]:
    net = CifarVGG(SHAPE, blocks=((6, 8), (8, 10), (12,))).eval()
    return randomised(net, seed=3), {
        "features.0": "features.1",
        "features.3": "features.4",
        "features.14": "features.15",
    }


@pytest.mark.parametrize("case", [resnet_case, vgg_case])
def test_the_removed_network_computes_what_the_silenced_one_does(case: object) -> None:
    net, norms = case()  # type: ignore[operator]
    units = {name: site.units for name, site in find_sites(net, SHAPE).items()}
    space = MaskSpace(tuple(SiteChoice(site=site, units=units[site], pruned=units[site] // 2) for site in norms))
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for place in space.draw(3, seed=4):
        mask = space.unrank(place)
        pruned = remove(net, mask, find_sites(net, SHAPE))
        expected = silenced(net, mask, norms, images)
        torch.testing.assert_close(pruned(images), expected, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(expected, net(images))
        assert all(pruned.get_submodule(norms[s]).num_features == units[s] - units[s] // 2 for s in norms)


@pytest.mark.parametrize("name", ["resnet20", "vgg19"])
def test_images_of_another_size_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} takes 32x32 images, but got 3x28x28 images of 10 classes"):
        build(name, InputShape(channels=3, height=28, width=28, classes=10))


def test_networks_are_pruned_in_threads_as_they_are_one_by_one() -> None:
    shape = InputShape(channels=1, height=32, width=32, classes=10)
    net = build("lenet5-mini", shape)
    space = MaskSpace((SiteChoice(site="conv1", units=10, pruned=5),))
    masks = [space.unrank(rank) for rank in space.draw(60, seed=0)]
    sites = find_sites(net, shape)
    one_by_one = [state_bytes(remove(net, mask, sites)) for mask in masks]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns within every statement
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda mask: state_bytes(remove(net, mask, sites)), masks)) == one_by_one
    finally:
        sys.setswitchinterval(before)
