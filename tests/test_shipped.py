"""Torch-Pruning's importances as shipped: that its numbers are what it computes, which is not always what it is called."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import odd_networks
import zoo
from test_unit_criteria import examples_for
from test_whole_criteria import SHAPE, Array, Deep
from trueoracle.analysis.metric import Better, known
from trueoracle.cli.app import main
from trueoracle.criteria import CannotJudge, Collected, Needs, collect, every_unit_criterion, unit_criteria
from trueoracle.criteria.shipped import BATCH, shipped_criteria
from trueoracle.data import Split
from trueoracle.nets import find_sites
from trueoracle.words.errors import ModelError
from trueoracle.words.scores import SHIPPED_CRITERIA

pytest.importorskip("torch_pruning")


@pytest.fixture(scope="module")
def net() -> Deep:
    torch.manual_seed(5)
    return Deep().double().eval()


@pytest.fixture(scope="module")
def split() -> Split:
    chance = torch.Generator().manual_seed(3)
    images = torch.randn(BATCH + 3, 1, 6, 6, generator=chance, dtype=torch.float64)
    return Split(images_NCHW=images, labels_N=torch.randint(3, (len(images),), generator=chance))


def said(name: str, net: nn.Module, split: Split, site: str = "conv") -> Array:
    of = collect(net, find_sites(net, SHAPE), split, Needs.EXAMPLES)[site]
    found: Array = shipped_criteria([name])[name].importance(of).numpy()
    return found


def relative(*parts: Tensor) -> Array:
    """The mean of what layers say, relative to its mean over the units: what the library does by default."""
    mean_U = torch.stack(parts).mean(0)
    found: Array = (mean_U / mean_U.mean()).detach().numpy()
    return found


def test_magnitudes_are_means_over_all_coupled_layers(net: Deep, split: Split) -> None:
    """So `l1` is not that of the filter's weights, and the L2 norm is squared."""
    own, heard = net.conv.weight.flatten(1), net.second.weight.transpose(0, 1).flatten(1)
    scale = net.norm.weight
    approx: Callable[[Array], object] = lambda wanted: pytest.approx(wanted, rel=1e-5)  # noqa: E731
    assert said("tp:l1", net, split) == approx(relative(own.abs().sum(1), scale.abs(), heard.abs().sum(1)))
    squares = own.square().sum(1), scale.square(), heard.square().sum(1)
    assert said("tp:group_norm", net, split) == approx(relative(*squares))
    assert said("tp:bn_scale", net, split) == approx(relative(scale.abs()))
    mean = torch.stack(squares).mean(0).detach().numpy()
    assert said("tp:lamp", net, split) == approx(np.array([s / mean[mean >= s].sum() for s in mean]))


def test_fpgm_is_of_squared_weights(net: Deep, split: Split) -> None:
    own, heard = net.conv.weight.flatten(1), net.second.weight.transpose(0, 1).flatten(1)
    of_squares = [torch.cdist(w.square(), w.square()).sum(1) for w in (own, heard)]
    assert said("tp:fpgm", net, split) == pytest.approx(relative(*of_squares), rel=1e-5)
    of_weights = [torch.cdist(w, w).sum(1) for w in (own, heard)]
    assert said("tp:fpgm", net, split) != pytest.approx(relative(*of_weights), rel=1e-2)


def gradients(net: Deep, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """By the convolution's weight, the scale and the next convolution's weight, which is laid out by its inputs."""
    conv, norm, second = torch.autograd.grad(
        split.train_loss(net), [net.conv.weight, net.norm.weight, net.second.weight]
    )
    return conv.flatten(1), norm, second.transpose(0, 1).flatten(1)


def test_taylor_is_of_absolute_products_and_does_not_hear_the_scale(net: Deep, split: Split) -> None:
    conv, _, second = gradients(net, split)
    wanted = relative(
        (conv * net.conv.weight.flatten(1)).abs().sum(1),
        (second * net.second.weight.transpose(0, 1).flatten(1)).abs().sum(1),
    )
    assert said("tp:taylor", net, split) == pytest.approx(wanted, rel=1e-5)


def test_hessian_is_of_the_last_example_alone(net: Deep, split: Split) -> None:
    conv, norm, second = gradients(net, split.take(slice(-1, None)))
    weights = net.conv.weight.flatten(1), net.second.weight.transpose(0, 1).flatten(1)
    parts = [(w.square() * g.square()).sum(1) for w, g in zip(weights, (conv, second), strict=True)]
    wanted = relative(parts[0], (norm * net.norm.weight).square(), parts[1])
    assert said("tp:hessian", net, split) == pytest.approx(wanted, rel=1e-5)
    others = Split(images_NCHW=-split.images_NCHW, labels_N=split.labels_N)
    others.images_NCHW[-1] = split.images_NCHW[-1]
    assert said("tp:hessian", net, others) == pytest.approx(wanted, rel=1e-5)


def test_activation_is_of_the_last_minibatch_alone(net: Deep, split: Split) -> None:
    with torch.no_grad():
        given = net.maps(split.images_NCHW[BATCH:])[0]
    assert said("tp:activation", net, split) == pytest.approx(relative(given.abs().mean((0, 2, 3))), rel=1e-5)


def test_every_unit_of_every_site_that_it_groups_alike_has_a_number(net: Deep, split: Split) -> None:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    every = shipped_criteria(["tp:l1"])
    assert tuple(every) == SHIPPED_CRITERIA
    assert {known(name) for name in (*SHIPPED_CRITERIA, "tp:taylor@64")} == {Better.LOWER}
    found = collect(net, find_sites(net, SHAPE), split, Needs.EXAMPLES)
    refused = {
        ("tp:bn_scale", "second"): "class finds nothing to look at in its group of `second`",
        ("tp:bn_scale", "hidden"): "class finds nothing to look at in its group of `hidden`",
        (
            "tp:activation",
            "second",
        ): "it says 12 numbers of the 3 channels of `second`",  # it forgets what was flattened
    }
    for of in found.values():
        for name, criterion in every.items():
            if (name, of.site.name) in refused:
                with pytest.raises(CannotJudge, match=refused[name, of.site.name]):
                    criterion.importance(of)
                continue
            importance = criterion.importance(of)
            assert importance.shape == (of.site.units,)
            assert importance.dtype == torch.float64
            assert importance.isfinite().all()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not any(hasattr(module, "_importance") for module in net.modules())


class Turned(nn.Module):
    """Channels in the reverse order, which the library's graph does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.conv(x)).flip(1))).mean((2, 3)))  # type: ignore[no-any-return]


def test_where_its_group_is_another_it_is_refused(split: Split) -> None:
    net = Turned().double().eval()
    with pytest.raises(
        CannotJudge, match="group is another: with unit 0 of `conv` it takes channel 0 of the inputs of `second`"
    ):
        said("tp:l1", net, split)
    assert len(said("tp:l1", net, split, "second")) == 3


@pytest.mark.parametrize(
    "name", ["odd: MobileNet", "odd: U-Net", "odd: recurrent, started", "odd: Inception", "classifiers: ViT"]
)
def test_numbers_or_a_reason(name: str) -> None:
    factory = odd_networks.NETWORKS[name[5:]] if name.startswith("odd") else zoo.NETWORKS[name][0]
    net = zoo.made(factory)
    found = collect(net, find_sites(net, zoo.LARGER), examples_for(zoo.LARGER), Needs.EXAMPLES)
    for of in found.values():
        for criterion in shipped_criteria(["tp:l1"]).values():
            assert all_finite(criterion.importance, of)


def all_finite(importance: Callable[[Collected], Tensor], of: Collected) -> bool:
    try:
        units = importance(of)
    except CannotJudge:
        return True
    return units.shape == (of.site.units,) and bool(units.isfinite().all())


def test_they_are_asked_for_by_name_alone() -> None:
    assert shipped_criteria(None) == shipped_criteria(["l1", "fisher"]) == {}
    assert not {*every_unit_criterion(), *unit_criteria()} & set(SHIPPED_CRITERIA)


def test_without_the_library_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ModelError, match="Torch-Pruning's own, which is not installed"):
        shipped_criteria(["fisher", "tp:l1"])
    weights = ["--weights", str(tmp_path / "w.safetensors"), "--criteria", "tp:l1"]
    words = ["--model", "lenet5-mini", "--data", "digits", "-o", "t.csv", *weights]
    monkeypatch.setattr("sys.argv", ["trueoracle", "criteria", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert "`tp:` criteria are Torch-Pruning's own, which is not installed: pip install torch-pruning" in line
    assert len(line.splitlines()) == 1
