from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from trueoracle.data import Split, load_dataset
from trueoracle.fleet import train
from trueoracle.nets import build, cost, find_sites, remove
from trueoracle.oracle import Loop
from trueoracle.space import MaskSpace, SiteChoice
from trueoracle.words.mask import Mask
from trueoracle.words.progress import Quiet
from trueoracle.words.shape import InputShape
from trueoracle.words.spec import Recipe

SHAPE = InputShape(channels=1, height=32, width=32, classes=10)
RECIPE = Recipe(optimiser="sgd", lr=0.02, momentum=0.9, batch_size=64, epochs=4)


def silenced(net: torch.nn.Module, mask: Mask, images: torch.Tensor) -> torch.Tensor:
    """Logits with the pruned units' outputs set to zero: removal without removing anything."""
    hooks = [
        net.get_submodule(part.site).register_forward_hook(
            lambda _module, _inputs, output, pruned=part.pruned: output.index_fill(1, torch.tensor(pruned), 0)
        )
        for part in mask.sites
    ]
    with torch.no_grad():
        logits = net(images)
    for hook in hooks:
        hook.remove()
    return logits


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    data = load_dataset("digits", None, torch.device("cpu"), Quiet())
    net = train(build("lenet5-mini", SHAPE, seed=1), data, RECIPE, order_seed=0).net
    return net, data.train.images_NCHW, data.train.labels_N


@pytest.mark.parametrize("model", ["lenet5-mini", "lenet5-mini-w20", "lenet5-mini-d8"])
@pytest.mark.parametrize("sites", [("conv1",), ("conv2",), ("conv3",), ("fc1",), ("conv1", "conv2", "conv3")])
def test_the_removed_network_computes_what_the_silenced_one_does(model: str, sites: tuple[str, ...]) -> None:
    net = build(model, SHAPE, seed=2).double()
    units = {name: site.units for name, site in find_sites(net, SHAPE).items()}
    space = MaskSpace(tuple(SiteChoice(site=s, units=units[s], pruned=units[s] // 2) for s in sites))
    images = torch.randn(8, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for place in space.draw(5, seed=3):
        mask = space.unrank(place)
        pruned = remove(net, mask, find_sites(net, SHAPE))
        torch.testing.assert_close(pruned(images), silenced(net, mask, images), rtol=1e-12, atol=1e-12)
        assert all(pruned.get_submodule(s).weight.shape[0] == units[s] - units[s] // 2 for s in sites)


def test_pruned_losses_equal_a_float64_evaluation(
    trained: tuple[torch.nn.Module, torch.Tensor, torch.Tensor],
) -> None:
    net, images, labels = trained
    space = MaskSpace((SiteChoice(site="conv1", units=10, pruned=5), SiteChoice(site="conv3", units=10, pruned=2)))
    ranks = space.draw(12, seed=0)
    found = Loop(net=net, space=space, shape=SHAPE).sums(ranks, Split(images_NCHW=images, labels_N=labels))
    for rank, loss, correct in zip(ranks, found.loss_M, found.correct_M, strict=True):
        logits = silenced(deepcopy(net).double(), space.unrank(rank), images.double())
        assert loss / len(labels) == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
        assert correct == (logits.argmax(1) == labels).sum()


def test_costs_counted_by_hand() -> None:
    # Parameters: 5x5 kernels and biases. Operations: a multiply-accumulate a weight and place; biases cost none.
    net = build("lenet5-mini", SHAPE)
    whole = 260 + 2510 + 2510 + 110 + 110
    assert cost(net, SHAPE).parameters == whole
    assert cost(net, SHAPE).macs == 28 * 28 * 250 + 10 * 10 * 2500 + 2500 + 100 + 100
    half = MaskSpace((SiteChoice(site="conv1", units=10, pruned=5),)).unrank(0)
    assert cost(remove(net, half, find_sites(net, SHAPE)), SHAPE).parameters == whole - 130 - 1250


def test_sites_are_every_layer_but_the_last() -> None:
    sites = find_sites(build("lenet5-mini-d6", SHAPE), SHAPE)
    assert list(sites) == ["conv1", "conv2", "conv3", "fc1", "fc2"]
    assert sites["conv3"].coupled == ("fc1",)
